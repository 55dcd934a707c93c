//! What the command line tools ask.

use bytes::Bytes;

use super::{
    DescribedGroup, DescribedMember, GroupCoordinator, ListedGroup,
    live::{Group, Phase},
};

impl GroupCoordinator {
    /// The group, or `None` where nobody knows it.
    #[must_use]
    pub fn describe_group(&self, group_id: &str) -> Option<DescribedGroup> {
        if let Some(group) = self.live.groups.get(group_id) {
            return Some(group.describe());
        }
        self.state.contains(group_id).then(|| DescribedGroup {
            phase: Phase::Empty,
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        })
    }

    /// Every group, those with only committed offsets too.
    #[must_use]
    pub fn list_groups(&self) -> Vec<ListedGroup> {
        let simple = self
            .state
            .offset_groups()
            .filter(|group_id| !self.live.groups.contains_key(*group_id))
            .map(|group_id| ListedGroup {
                group_id: group_id.clone(),
                phase: Phase::Empty,
                protocol_type: String::new(),
            });
        let live = self.live.groups.iter().map(|(group_id, group)| ListedGroup {
            group_id: group_id.clone(),
            phase: group.phase,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
        });
        let mut groups: Vec<ListedGroup> = live.chain(simple).collect();
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        groups
    }
}

impl Group {
    /// Metadata and assignments are those of a stable group; during a rebalance there are none.
    fn describe(&self) -> DescribedGroup {
        let stable = self.phase == Phase::Stable;
        let protocol = self.protocol.as_deref().filter(|_| stable);
        let members = self.members.values().map(|member| DescribedMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(protocol),
            assignment: if stable { member.assignment.clone() } else { Bytes::new() },
        });
        DescribedGroup {
            phase: self.phase,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: members.collect(),
        }
    }
}
