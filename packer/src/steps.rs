//! Packing goes by steps, and tells when each begins and ends.

use std::path::Path;
use std::time::Instant;

use crate::error::PackError;
use crate::event::{Event, Observer, Stage};
use crate::tool::Place;

/// Reports the steps.
pub(crate) struct Steps<'a> {
    /// Whom they are reported to.
    pub(crate) observe: Observer<'a>,
    /// What is named when its disk is full.
    pub(crate) store: &'a Path,
}

impl Steps<'_> {
    /// Where things stand in this step, for errors.
    pub(crate) fn place(&self, stage: Stage) -> Place<'_> {
        Place { store: self.store, step: stage.describe() }
    }

    /// Runs a step between its events.
    ///
    /// # Errors
    /// Those of the step.
    pub(crate) fn run<T>(
        &self,
        stage: Stage,
        step: impl FnOnce(&Place<'_>) -> Result<T, PackError>,
    ) -> Result<T, PackError> {
        (self.observe)(Event::Stage { stage });
        let start = Instant::now();
        let result = step(&self.place(stage))?;
        let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        (self.observe)(Event::Done { stage, elapsed_ms });
        Ok(result)
    }
}
