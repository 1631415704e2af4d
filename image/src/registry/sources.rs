//! Reading from mirrors first, and from the registry itself when they fail or do not have it.

use super::Core;
use super::error::RegistryError;
use crate::Reference;

impl Core {
    /// The places to read an image from: mirrors that have not failed yet, then the registry itself.
    pub(super) fn places(&self, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        let sources = self.mirrors.sources(reference);
        if sources.is_blocked {
            return Err(RegistryError::Blocked { reference: reference.familiar() });
        }
        let mut places = sources.mirrors;
        places.retain(|mirror| !self.failed_mirrors.has(mirror));
        places.push(sources.origin);
        Ok(places)
    }

    /// Asks one place after the other until one has it. Only what the registry itself answers is an error.
    pub(super) async fn ask_places<T>(
        &self,
        reference: &Reference,
        ask: impl AsyncFn(Reference) -> Result<Option<T>, RegistryError>,
    ) -> Result<Option<T>, RegistryError> {
        let mut places = self.places(reference)?.into_iter().peekable();
        while let Some(place) = places.next() {
            let answer = ask(place.clone()).await;
            if places.peek().is_none() {
                return answer;
            }
            match answer {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => tracing::debug!("the mirror `{}` does not have it", place.name()),
                Err(error) => self.note_failed_mirror(&place, &error),
            }
        }
        Ok(None)
    }

    /// Says that a mirror failed, once, and does not ask it again. It may lack one image and have others.
    pub(super) fn note_failed_mirror(&self, mirror: &Reference, error: &RegistryError) {
        if error.is_about_one_image() {
            return tracing::debug!("{error}");
        }
        if self.failed_mirrors.note(mirror) {
            tracing::warn!("the mirror `{}` is not used any more: {error}", mirror.registry());
        }
    }

    /// Bytes that came for an image were not the right ones: whichever mirror sent them, none is asked again.
    pub(super) fn distrust_mirrors(&self, reference: &Reference, error: &RegistryError) {
        for mirror in self.mirrors.sources(reference).mirrors {
            self.note_failed_mirror(&mirror, error);
        }
    }
}
