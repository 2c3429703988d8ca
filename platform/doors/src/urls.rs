//! Where function URLs lead: by the first label of their host name, and by the words that people have for them.

use crate::arrival::Destination;
use control::Function;
use std::collections::HashMap;
use std::sync::Arc;

/// All function URLs. A change of one function costs no more than that function has URLs.
#[derive(Debug, Default)]
pub(crate) struct Urls {
    by_id: HashMap<String, Destination>,
    by_word: HashMap<String, Vec<Word>>,
    by_logical_id: HashMap<String, Arc<Function>>,
    /// What is in the tables for each function.
    functions: HashMap<String, Arc<Function>>,
}

/// One meaning of a word.
#[derive(Debug)]
struct Word {
    /// Whether the word names this very URL, and not just its function.
    is_whole: bool,
    /// The function's own URL is 0, those of its aliases follow.
    number: usize,
    destination: Destination,
}

impl Urls {
    /// A function is there, or is another than before.
    pub(crate) fn put(&mut self, function: &Arc<Function>) {
        self.remove(&function.name);
        if let Some(id) = &function.logical_id {
            self.by_logical_id.insert(id.clone(), function.clone());
        }
        for (number, (alias, url)) in function.urls().enumerate() {
            let destination = Destination {
                function: function.clone(),
                qualifier: alias.map(Into::into),
                is_public: function.is_public_url(alias),
            };
            self.by_id.insert(url.id.clone(), destination.clone());
            for (word, is_whole) in words(function, alias) {
                let meaning = Word { is_whole, number, destination: destination.clone() };
                self.by_word.entry(word).or_default().push(meaning);
            }
        }
        if function.logical_id.is_some() || function.urls().next().is_some() {
            self.functions.insert(function.name.clone(), function.clone());
        }
    }

    /// A function is gone.
    pub(crate) fn remove(&mut self, name: &str) {
        // Asked once a function at the start, when there is nothing yet.
        if self.functions.is_empty() {
            return;
        }
        let Some(function) = self.functions.remove(name) else { return };
        if let Some(id) = &function.logical_id
            && self.by_logical_id.get(id).is_some_and(|found| found.name == name)
        {
            self.by_logical_id.remove(id);
        }
        for (alias, url) in function.urls() {
            self.by_id.remove(&url.id);
            for (word, _) in words(&function, alias) {
                let Some(meanings) = self.by_word.get_mut(&word) else { continue };
                meanings.retain(|meaning| meaning.destination.function.name != name);
                if meanings.is_empty() {
                    self.by_word.remove(&word);
                }
            }
        }
    }

    /// The URL whose host name begins with that label.
    pub(crate) fn by_id(&self, id: &str) -> Option<&Destination> {
        self.by_id.get(id)
    }

    /// What a word means: the URL of just that name, or else the first one of the function of that name.
    pub(crate) fn by_word(&self, word: &str) -> Option<&Destination> {
        let order = |word: &&Word| (!word.is_whole, word.destination.function.name.clone(), word.number);
        self.by_word.get(word)?.iter().min_by_key(order).map(|word| &word.destination)
    }

    /// The function that a template calls by that logical id.
    pub(crate) fn by_logical_id(&self, id: &str) -> Option<&Arc<Function>> {
        self.by_logical_id.get(id)
    }

    /// Every URL: its id and where it leads.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Destination)> {
        self.by_id.iter()
    }
}

/// The words for one URL of a function, and whether each names it alone. SAM names the URL's own resource `CartUrl`.
fn words(function: &Function, alias: Option<&str>) -> Vec<(String, bool)> {
    let logical_id = function.logical_id.iter();
    let words = logical_id.flat_map(|id| [id.clone(), format!("{id}Url")]).chain([function.name.clone()]);
    let mut all = Vec::new();
    for word in words {
        match alias {
            None => all.push((word, true)),
            Some(alias) => {
                all.push((format!("{word}:{alias}"), true));
                all.push((word, false));
            }
        }
    }
    // A function that is called like its logical id has each word once.
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{AuthType, FunctionUrl, InvokeMode};

    fn url(id: &str) -> FunctionUrl {
        FunctionUrl {
            id: id.to_owned(),
            auth_type: AuthType::None,
            cors: None,
            invoke_mode: InvokeMode::Buffered,
            created: String::new(),
            last_modified: String::new(),
        }
    }

    fn function(
        name: &str,
        logical_id: Option<&str>,
        own: Option<&str>,
        live: Option<&str>,
    ) -> Arc<Function> {
        let mut function = Function::new(name, "/code".into());
        function.logical_id = logical_id.map(str::to_owned);
        function.url = own.map(url);
        function.published.urls.extend(live.map(|id| ("live".to_owned(), url(id))));
        Arc::new(function)
    }

    fn to(urls: &Urls, word: &str) -> Option<String> {
        let found = urls.by_word(word)?;
        let alias = found.qualifier.as_deref().map(|alias| format!(":{alias}")).unwrap_or_default();
        Some(format!("{}{alias}", found.function.name))
    }

    #[test]
    fn a_url_is_found_by_its_host_by_name_and_by_logical_id() {
        let mut urls = Urls::default();
        urls.put(&function("shop-cart", Some("Cart"), Some("a"), Some("b")));
        for (word, expected) in [
            ("Cart", "shop-cart"),
            ("CartUrl", "shop-cart"),
            ("shop-cart", "shop-cart"),
            ("Cart:live", "shop-cart:live"),
            ("shop-cart:live", "shop-cart:live"),
        ] {
            assert_eq!(to(&urls, word).as_deref(), Some(expected), "{word}");
        }
        assert_eq!(urls.by_id("b").unwrap().qualifier.as_deref(), Some("live"));
        assert_eq!(urls.by_logical_id("Cart").unwrap().name, "shop-cart");
    }

    #[test]
    fn a_word_without_an_alias_means_the_functions_own_url_or_else_the_first() {
        let mut urls = Urls::default();
        urls.put(&function("cart", None, None, Some("b")));
        assert_eq!(to(&urls, "cart").as_deref(), Some("cart:live"));
        urls.put(&function("cart", None, Some("a"), Some("b")));
        assert_eq!(to(&urls, "cart").as_deref(), Some("cart"));
    }

    #[test]
    fn what_goes_leaves_the_others_theirs() {
        let mut urls = Urls::default();
        urls.put(&function("a", Some("Cart"), Some("1"), None));
        urls.put(&function("b", Some("Cart"), Some("2"), None));
        urls.put(&function("a", Some("Cart"), None, None));
        assert_eq!(to(&urls, "Cart").as_deref(), Some("b"));
        assert!(urls.by_id("1").is_none() && urls.by_id("2").is_some());
        urls.remove("b");
        assert!(to(&urls, "Cart").is_none() && urls.iter().next().is_none());
        urls.remove("a");
        assert!(urls.by_logical_id("Cart").is_none() && urls.functions.is_empty() && urls.by_word.is_empty());
    }
}
