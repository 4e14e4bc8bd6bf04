//! "Did you mean": the closest of the words that would have been right, if one is close at all.

/// `, did you mean `x`?` for the closest candidate, empty if none is close.
pub(super) fn suggestion<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> String {
    let close = candidates.filter(|candidate| is_close(name, candidate));
    match close.min_by_key(|candidate| distance(name, candidate)) {
        Some(candidate) => format!(", did you mean `{candidate}`?"),
        None => String::new(),
    }
}

/// At most a third of the letters differ.
pub(super) fn is_close(name: &str, candidate: &str) -> bool {
    name.len() <= 64 && distance(name, candidate) <= (candidate.len() / 3).max(1)
}

fn distance(name: &str, candidate: &str) -> usize {
    strsim::damerau_levenshtein(&name.to_lowercase().replace('-', "_"), candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_words_are_suggested() {
        for (name, hint) in [
            ("upsteam", ", did you mean `upstream`?"),
            ("Body-Size", ", did you mean `body_size`?"),
            ("body_sizes", ", did you mean `body_size`?"),
            ("zebra", ""),
            ("", ""),
        ] {
            assert_eq!(suggestion(name, ["upstream", "body_size", "app"].into_iter()), hint, "{name}");
        }
    }
}
