//! Tables as handlers and commands read them.

use serde::{Deserialize, Serialize};

use crate::{Row, Tables, Tx, Walk, testing::Testing};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    id: i64,
    shelf: String,
}

impl Row for Book {
    const TABLE: &'static str = "books";
    const VERSION: u16 = 2;

    fn key(&self) -> String {
        format!("{:04}", self.id)
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("shelf", self.shelf.clone())]
    }

    fn upgrade(version: u16, row: serde_json::Value) -> Result<Self, serde_json::Error> {
        assert_eq!(version, 1);
        let id = serde_json::from_value(row)?;
        Ok(Self { id, shelf: "old".to_owned() })
    }
}

fn book(id: i64, shelf: &str) -> Book {
    Book { id, shelf: shelf.to_owned() }
}

fn ids(books: &[Book]) -> Vec<i64> {
    books.iter().map(|book| book.id).collect()
}

async fn shelves(books: Vec<Book>) -> Testing {
    let testing = Testing::new(Tables::new().with::<Book>());
    put(&testing, books).await;
    testing
}

async fn put(testing: &Testing, books: Vec<Book>) {
    let all = move |tx: &mut Tx<'_>| {
        for book in &books {
            tx.put(book);
        }
        Ok::<_, ()>(())
    };
    testing.commit.run(all).await.unwrap();
}

#[tokio::test]
async fn an_index_finds_its_exact_key_only_and_follows_changes() {
    let testing = shelves(vec![book(1, "a"), book(2, "ab"), book(3, "a"), book(4, "")]).await;
    let view = testing.commit.view();
    assert_eq!(ids(&view.by_index("shelf", "a")), [1, 3]);
    assert_eq!(ids(&view.by_index("shelf", "")), [4]);
    put(&testing, vec![book(1, "ab")]).await;
    assert_eq!(ids(&view.by_index("shelf", "a")), [3]);
    assert_eq!(ids(&view.by_index("shelf", "ab")), [1, 2]);
}

#[tokio::test]
async fn a_walk_goes_on_where_it_ended_in_both_directions() {
    let testing =
        shelves((1..=5).map(|id| book(id, if id % 2 == 0 { "a" } else { "b" })).collect()).await;
    let view = testing.commit.view();
    let walk = |after, reversed| -> Vec<(String, i64)> {
        let found = view.walk::<Book>("shelf", Walk { prefix: "", after, reversed, limit: 2 });
        found.into_iter().map(|(key, book)| (key, book.id)).collect()
    };
    let at = |key: &str, id| (key.to_owned(), id);
    assert_eq!(walk(None, false), [at("a", 2), at("a", 4)]);
    assert_eq!(walk(Some(("a", "0004")), false), [at("b", 1), at("b", 3)]);
    assert_eq!(walk(Some(("b", "0005")), false), []);
    assert_eq!(walk(None, true), [at("b", 5), at("b", 3)]);
    assert_eq!(walk(Some(("b", "0001")), true), [at("a", 4), at("a", 2)]);
    let only = view.walk::<Book>("shelf", Walk { prefix: "b", limit: 9, ..Walk::default() });
    assert_eq!(only.len(), 3);
}

#[tokio::test]
async fn a_command_sees_what_it_changed() {
    let testing = shelves(vec![book(1, "a"), book(2, "a"), book(3, "b")]).await;
    let seen = testing.commit.run(|tx| {
        tx.delete::<Book>("0001");
        tx.delete::<Book>("0009");
        tx.put(&book(2, "b"));
        tx.put(&book(4, "a"));
        let (a, b) = (tx.by_index::<Book>("shelf", "a"), tx.by_index::<Book>("shelf", "b"));
        let (first, second) = (tx.next_id("books"), tx.next_id("books"));
        Ok::<_, ()>((ids(&a), ids(&b), ids(&tx.scan("0002", 2)), first, second))
    });
    let (a, b, scanned, first, second) = seen.await.unwrap();
    assert_eq!((a, b, scanned), (vec![4], vec![2, 3], vec![2, 3]));
    assert_eq!((first, second), (1, 2));
    assert_eq!(ids(&testing.commit.view().scan("", 10)), [2, 3, 4]);
}

#[tokio::test]
async fn a_refused_command_leaves_nothing() {
    let testing = shelves(vec![book(1, "a")]).await;
    let refused = testing.commit.run(|tx| {
        tx.delete::<Book>("0001");
        tx.next_id("books");
        Err::<(), _>("no")
    });
    refused.await.unwrap_err();
    assert_eq!(ids(&testing.commit.view().scan("", 10)), [1]);
    let id = testing.commit.run(|tx| Ok::<_, ()>(tx.next_id("books"))).await;
    assert_eq!(id, Ok(1));
}

#[test]
fn a_row_of_an_older_version_is_upgraded() {
    let old: Book = crate::row::load(br#"{"v":1,"row":7}"#).unwrap();
    assert_eq!(old, book(7, "old"));
    let stored = crate::row::store(&book(7, "new"));
    assert_eq!(crate::row::load::<Book>(&stored.value).unwrap(), book(7, "new"));
}
