//! Rows of a person outside of their conversations: removed, or left under a pseudonym.

use std::sync::Arc;

use super::{
    steps::{PAGE, count},
    words::Person,
};
use crate::{
    domain::Erasure,
    orchestrator::{Inner, error::CommandError},
    store::{Durability, StoreError},
};

/// Days of use in one transaction.
const DAYS_AT_ONCE: i64 = 32;

impl Inner {
    pub(super) async fn erase_rows(
        self: &Arc<Self>,
        person: &Person,
        erasure: &mut Erasure,
    ) -> Result<(), CommandError> {
        let (id, pseudonym) = (person.id, person.pseudonym);
        self.erase_answers(person, erasure).await?;
        let days = self.store.read().await?.erasures().days_of_use().await?;
        if let Some((mut day, last)) = days {
            while day <= last {
                let until = (day + DAYS_AT_ONCE - 1).min(last);
                let rows = self
                    .store
                    .write(Durability::Normal, move |tx| {
                        Box::pin(async move {
                            tx.erasures().swap_usage(id, pseudonym, day..=until).await
                        })
                    })
                    .await?;
                count(erasure, "usage.pseudonym", rows);
                day = until + 1;
            }
        }
        let mut after = Some(String::new());
        while let Some(place) = after {
            let (rows, last) = self
                .store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move {
                        tx.erasures().swap_capabilities(id, pseudonym, &place, PAGE).await
                    })
                })
                .await?;
            count(erasure, "capabilities.pseudonym", rows);
            after = last;
        }
        let mut counts = std::mem::take(&mut erasure.counts);
        erasure.counts = self
            .store
            .change(move |tx| {
                Box::pin(async move {
                    tx.flush().await?;
                    let (accounts, _) = tx.erasures().known_as(id).await?;
                    tx.erasures().swap_person(id, pseudonym, &mut counts).await?;
                    tx.erasures().remove_person(id, &accounts, &mut counts).await?;
                    Ok::<_, StoreError>(counts)
                })
            })
            .await?;
        self.refresh_access().await?;
        self.in_force_everywhere().await?;
        // Nobody notes any more when they were here last.
        self.store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move { tx.erasures().remove_visits(id).await })
            })
            .await?;
        Ok(())
    }

    /// Stored answers to repeated requests: theirs, and those of others that name them.
    async fn erase_answers(
        &self,
        person: &Person,
        erasure: &mut Erasure,
    ) -> Result<(), StoreError> {
        let mut place = (String::new(), String::new());
        loop {
            let page = self.store.read().await?.erasures().answers(&place, PAGE).await?;
            let Some((principal, key, _)) = page.last() else { return Ok(()) };
            place = (principal.clone(), key.clone());
            let id = person.id.to_string();
            let is_about = |(principal, _, answer): &(String, String, String)| {
                *principal == id || person.is_named_in(answer)
            };
            let old: Vec<_> = page.into_iter().filter(is_about).collect();
            count(erasure, "idempotency", old.len() as u64);
            if old.is_empty() {
                continue;
            }
            self.store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move {
                        for (principal, key, _) in old {
                            tx.erasures().remove_answer(&principal, &key).await?;
                        }
                        Ok::<_, StoreError>(())
                    })
                })
                .await?;
        }
    }
}
