//! Lists for those whose scopes leave things out: pages are read and sifted until one is full.
//!
//! A page may come out shorter than asked for, with a cursor to go on from: a narrow scope over a
//! long list must not turn one request into a walk through all of it.

use std::future::Future;

use crate::store::{Page, Paged, StoreError};

/// Pages that one request reads at most.
const PAGES_MAX: usize = 10;

/// Reads pages until one holds something. `read` gives what it keeps of a page, and the cursor
/// behind it.
pub(super) async fn sift<T, F>(
    page: Page,
    mut read: impl FnMut(Page) -> F,
) -> Result<Paged<T>, StoreError>
where
    F: Future<Output = Result<(Vec<T>, Option<String>), StoreError>> + Send,
    T: Send,
{
    let mut items = Vec::new();
    let mut next = page;
    for _ in 0..PAGES_MAX {
        let (found, cursor) = read(next.clone()).await?;
        items.extend(found);
        let Some(cursor) = cursor else { return Ok(Paged { items, next_cursor: None }) };
        if !items.is_empty() {
            return Ok(Paged { items, next_cursor: Some(cursor) });
        }
        next = next.after(cursor);
    }
    let next_cursor = next.cursor().map(str::to_owned);
    Ok(Paged { items, next_cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 99 down; a page holds `limit` of them before it is sifted.
    async fn sifted(keep: fn(u32) -> bool) -> (usize, Paged<u32>) {
        let mut reads = 0;
        let paged = sift(Page::new(Some(5), None), |page| {
            reads += 1;
            let from = page.cursor().map_or(100, |c| c.parse::<u32>().unwrap());
            let all: Vec<u32> = (0..from).rev().take(5).collect();
            let cursor = all.last().filter(|n| **n > 0).map(ToString::to_string);
            std::future::ready(Ok((all.into_iter().filter(|n| keep(*n)).collect(), cursor)))
        });
        let paged = paged.await.unwrap();
        (reads, paged)
    }

    #[tokio::test]
    async fn pages_are_read_until_one_holds_something_but_not_without_end() {
        let (reads, paged) = sifted(|n| n == 88).await;
        assert_eq!((reads, paged.items, paged.next_cursor), (3, vec![88], Some("85".to_owned())));
        let (reads, paged) = sifted(|_| false).await;
        assert_eq!((reads, paged.items, paged.next_cursor), (10, vec![], Some("50".to_owned())));
        let (reads, paged) = sifted(|_| true).await;
        assert_eq!((reads, paged.items.len(), paged.next_cursor), (1, 5, Some("95".to_owned())));
    }
}
