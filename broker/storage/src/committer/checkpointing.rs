//! Publishing a cycle, and what follows from it: file operations, checkpoints, the last cycle of
//! an idle second.

use std::{sync::Arc, time::Duration};

use super::{Answer, Committer};
use crate::{
    cleaner::DeletedTopic, journal::checkpoint::Checkpoint, keeper::CheckpointPlan,
    partition::Partition, queue::Request,
};

/// After so long without a cycle, an empty one says that the last was synced.
const PROVE_AFTER: Duration = Duration::from_secs(1);
/// After so long without a cycle, a checkpoint is taken.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(5);

impl Committer {
    /// Shows the log ends, which are written but not synced. Afterwards acks=1 may be answered.
    pub(super) fn publish_ends(&mut self) {
        for partition in &self.draft.partitions {
            if let Some(entry) = self.entries.get(partition) {
                entry.partition.published().offsets.log_end_offset = entry.log.next_offset;
            }
        }
    }

    /// Makes the synced cycle visible, does the file operations that it decided, and answers.
    pub(super) fn publish(&mut self) {
        assert!(self.ring.is_synced(), "nothing is answered or shown before its sync");
        let partitions = std::mem::take(&mut self.draft.partitions);
        self.publish_catalogue();
        let mut woken = Vec::new();
        for id in &partitions {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            if let Some(rolled) = entry.roll_if_emptied() {
                self.uncovered.dirs.insert(entry.partition.dir.clone());
                self.uncovered.rolled.push(rolled);
            }
            woken.append(&mut entry.publish());
            // Files are deleted by the checkpoint that knows the new start.
            self.checkpoint_wanted |= entry.partition.published().has_deletable(entry.log.segment);
            self.logs.insert(*id, entry.end());
            self.uncovered.touched.insert(*id);
        }
        for swap in self.draft.swaps.drain(..) {
            let Some(entry) = self.entries.get(&swap.partition) else { continue };
            self.uncovered.dirs.insert(entry.partition.dir.clone());
            self.uncovered.swaps.push(swap);
            self.checkpoint_wanted = true;
        }
        if !partitions.is_empty() {
            self.shared.observe(&partitions);
        }
        for done in woken {
            done(());
        }
        self.draft.written.drain(..).for_each(Answer::give);
        self.draft.synced.drain(..).for_each(Answer::give);
    }

    /// New partitions appear, deleted ones go; their files are left to the thread of retention.
    fn publish_catalogue(&mut self) {
        if !std::mem::take(&mut self.draft.catalogue_changed) {
            return;
        }
        let created: Vec<_> = self
            .draft
            .created
            .drain(..)
            .filter_map(|id| Some((id, Arc::clone(&self.entries.get(&id)?.partition))))
            .collect();
        let deleted = std::mem::take(&mut self.draft.deleted);
        let mut removed: Vec<Vec<Arc<Partition>>> = Vec::new();
        self.shared.change_partitions(|partitions| {
            partitions.extend(created);
            for (_, ids) in &deleted {
                removed.push(ids.iter().filter_map(|id| partitions.remove(id)).collect());
            }
        });
        self.shared.set_catalogue(Arc::clone(&self.catalogue));
        for ((topic, ids), partitions) in deleted.into_iter().zip(removed) {
            for id in ids {
                self.logs.remove(&id);
                self.uncovered.touched.remove(&id);
                self.uncovered.removed.push(id);
            }
            let dir = self.shared.paths.topics.join(topic.0.to_string());
            self.uncovered.files.retain(|(partition, _), _| partition.topic != topic);
            self.uncovered.rolled.retain(|rolled| !rolled.file.dir.starts_with(&dir));
            self.uncovered.dirs.retain(|path| !path.starts_with(&dir));
            for partition in &partitions {
                let waiting = partition.published().take_waiting();
                drop(waiting);
            }
            self.shared.leftovers.add_topic(DeletedTopic { dir, partitions });
        }
    }

    /// Hands a checkpoint at this cycle to the keeper, if one is wanted and it has time.
    pub(super) fn offer_checkpoint(&mut self) {
        if self.checkpoint_wanted && self.shared.jobs.is_idle() && self.draft.planned.is_empty() {
            let plan = self.checkpoint_plan(false);
            self.shared.jobs.checkpoint(plan);
        }
    }

    fn checkpoint_plan(&mut self, last: bool) -> CheckpointPlan {
        self.checkpoint_wanted = false;
        self.checkpoint += 1;
        self.checkpoint_cycle = self.cycle;
        let uncovered = std::mem::take(&mut self.uncovered);
        let touched = uncovered.touched.iter().filter_map(|id| {
            let entry = self.entries.get(id)?;
            Some((Arc::clone(&entry.partition), entry.log.clone()))
        });
        let checkpoint = Checkpoint {
            number: self.checkpoint,
            data_id: self.shared.data_id,
            secret: self.origin.secret,
            cycle: self.cycle,
            cycle_start: self.cycle_start,
            ring: self.ring.at(),
            start: self.origin.start,
            leader_epoch: self.origin.leader_epoch,
            clean: false,
            identity: self.shared.host.disk.identity(&self.shared.paths.data),
            logs: self.logs.clone(),
        };
        CheckpointPlan {
            checkpoint,
            touched: touched.collect(),
            files: uncovered.files,
            dirs: uncovered.dirs,
            rolled: uncovered.rolled,
            removed: uncovered.removed,
            swaps: uncovered.swaps,
            last,
        }
    }

    /// What a plan that was not begun would have covered is for the next one.
    fn cover_again(&mut self, plan: CheckpointPlan) {
        let CheckpointPlan { files, dirs, rolled, touched, removed, swaps, .. } = plan;
        let uncovered = &mut self.uncovered;
        let mut ids: std::collections::BTreeSet<_> =
            touched.into_iter().map(|(partition, _)| partition.id).collect();
        uncovered.touched.append(&mut ids);
        uncovered.files.extend(files);
        uncovered.dirs.extend(dirs);
        uncovered.rolled.splice(0..0, rolled);
        uncovered.removed.splice(0..0, removed);
        uncovered.swaps.splice(0..0, swaps);
    }

    /// What an idle committer does. Answers when it has to look again.
    pub(crate) fn idle(&mut self) -> Option<Duration> {
        if self.shared.has_ended() {
            return None;
        }
        let idle = self.shared.host.clock.monotonic().saturating_sub(self.last_activity);
        if self.proved < self.cycle {
            if idle < PROVE_AFTER {
                return Some(PROVE_AFTER.saturating_sub(idle));
            }
            if self.prove().is_err() {
                return None;
            }
        }
        if !self.shared.reserve.is_held() {
            self.look_for_space();
        }
        let look_again = (!self.shared.reserve.is_held()).then_some(PROVE_AFTER);
        if self.checkpoint_cycle < self.cycle {
            if idle < CHECKPOINT_AFTER {
                let left = CHECKPOINT_AFTER.saturating_sub(idle);
                return Some(look_again.map_or(left, |look| look.min(left)));
            }
            self.checkpoint_wanted = true;
            self.offer_checkpoint();
            return self.checkpoint_wanted.then_some(PROVE_AFTER).or(look_again);
        }
        look_again
    }

    /// A clean stop: what is queued is done, the last cycle is proved, a checkpoint is left.
    pub(crate) fn finish(&mut self) {
        while self.step() {}
        self.backlog.drain(..).for_each(Request::refuse);
        if self.shared.has_ended() || (self.proved < self.cycle && self.prove().is_err()) {
            return;
        }
        if let Some(plan) = self.shared.jobs.withdraw() {
            // The last takes its number, and with that its file: the other one is the newest.
            self.checkpoint = plan.checkpoint.number - 1;
            self.cover_again(*plan);
        }
        let plan = self.checkpoint_plan(true);
        self.shared.jobs.checkpoint(plan);
        self.shared.jobs.stop();
    }
}
