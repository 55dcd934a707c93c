//! Writes each batch where its cycle says, and takes note of it as a live append would.

use std::collections::HashMap;

use wire::batch::BatchView;

use super::Recovery;
use crate::{
    api::PartitionId,
    codec::position,
    committer::Entry,
    damage::{Damage, OpenError},
    data_dir::{at, reading},
    journal::{
        cycle::{Extent, decode},
        scan::Scan,
    },
    log_scan::marker_of,
};

impl Recovery<'_> {
    /// Rewrites the logs from the cycles. Answers how many bytes.
    pub(super) fn replay(
        &mut self,
        scan: &Scan,
        entries: &mut HashMap<PartitionId, Entry>,
    ) -> Result<u64, OpenError> {
        let mut memory = Vec::new();
        let mut bytes = 0;
        for found in &scan.cycles {
            reading(self.ring_files.dir(), scan.read(found, &mut memory))?;
            let cycle = decode(&memory, &self.checkpoint.secret).ok_or_else(|| {
                let path = self.ring_files.dir().join(format!("segment-{}", found.at.segment));
                Damage::BadCycle { path, position: found.at.position }
            })?;
            for (extent, piece) in &cycle.pieces {
                // The topic was deleted later in the ring.
                let Some(entry) = entries.get_mut(&extent.partition) else { continue };
                self.replay_piece(entry, extent, piece)?;
                bytes += position(piece.len());
            }
        }
        Ok(bytes)
    }

    fn replay_piece(
        &mut self,
        entry: &mut Entry,
        extent: &Extent,
        piece: &[u8],
    ) -> Result<(), OpenError> {
        let id = extent.partition;
        if extent.segment != entry.log.segment {
            let rolled = entry.roll();
            self.written.rolled.extend(rolled);
        }
        let file = entry.file();
        let path = file.path();
        if extent.segment != entry.log.segment || extent.position != entry.log.position {
            let (partition, from) = (id.into(), entry.log.next_offset);
            let position = extent.position;
            return Err(Damage::BadBatch { path, partition, position, from }.into());
        }
        if extent.position == 0 {
            let topic = file.dir.parent().map(std::path::Path::to_path_buf);
            self.written.dirs.extend(topic.into_iter().chain([file.dir.clone()]));
            self.written.dirs.insert(self.dir.paths.topics.clone());
        }
        let disk = self.host.disk.as_ref();
        let write = || file.append(disk, piece, extent.position);
        at(&path, self.reserve.write(write))?;
        let mut at_byte = 0;
        while at_byte < piece.len() {
            let rest = piece.get(at_byte..).unwrap_or_default();
            let view = BatchView::parse(rest)
                .ok()
                .filter(|view| view.header.base_offset >= entry.log.next_offset);
            let Some(view) = view else {
                let position = extent.position + position(at_byte);
                let (partition, from) = (id.into(), entry.log.next_offset);
                return Err(Damage::BadBatch { path, partition, position, from }.into());
            };
            entry.apply(&view.header, marker_of(&view.header, view.bytes()));
            at_byte += view.bytes().len();
        }
        self.written.files.insert((id, extent.segment), file);
        self.written.touched.insert(id);
        Ok(())
    }
}
