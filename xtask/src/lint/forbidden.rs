//! Nothing unfinished and no test that is switched off.

use proc_macro2::TokenTree;

use super::Finding;
use super::source::{self, Source, bracketed, is_sign, is_word};

/// A remark that something is broken; written in two parts, or this file would have one.
const REMARK: &str = concat!("FIX", "ME");

/// Checks one file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        if line.contains(REMARK) {
            findings.push(Finding::new(&source.path, index + 1, format!("a {REMARK} remark: repair it")));
        }
    }
    // Tokens, not text: a string that only mentions them is fine, and one in the body of a macro is seen.
    source::each_list(&source.tokens, &mut |list| {
        for (at, tree) in list.iter().enumerate() {
            if let Some(message) = forbidden(list, at) {
                findings.push(Finding::new(&source.path, source::line_of(tree), message));
            }
        }
    });
    findings
}

fn forbidden(list: &[TokenTree], at: usize) -> Option<String> {
    for name in ["todo", "unimplemented"] {
        if is_word(list.get(at), name) && is_sign(list.get(at + 1), '!') {
            return Some(format!("`{name}!`: write the code"));
        }
    }
    if is_sign(list.get(at), '#') {
        let attribute = bracketed(list.get(at + 1))?;
        let conditional = is_word(attribute.first(), "cfg_attr")
            && matches!(attribute.get(1), Some(TokenTree::Group(group))
                if group.stream().into_iter().any(|tree| is_word(Some(&tree), "ignore")));
        if is_word(attribute.first(), "ignore") || conditional {
            return Some("an ignored test: nobody runs it; make it run, or take it out".to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        check(&source::sample(text)).len()
    }

    #[test]
    fn unfinished_code_is_found_everywhere() {
        assert_eq!(found("fn f() { todo!() }"), 1);
        assert_eq!(found("fn f() { std::unimplemented!(\"later\") }"), 1);
        assert_eq!(found("macro_rules! m { () => { todo!() } }"), 1);
        assert_eq!(found(&format!("// {REMARK}: wrong\nfn f() {{}}")), 1);
    }

    #[test]
    fn ignored_tests_are_found() {
        assert_eq!(found("#[test]\n#[ignore]\nfn f() {}"), 1);
        assert_eq!(found("#[test]\n#[ignore = \"slow\"]\nfn f() {}"), 1);
        assert_eq!(found("#[test]\n#[cfg_attr(windows, ignore)]\nfn f() {}"), 1);
        assert_eq!(found("mod m { #[ignore] fn f() {} }"), 1);
    }

    #[test]
    fn words_alone_are_fine() {
        assert_eq!(found("fn todo() { let ignore = \"todo!()\"; }"), 0);
        assert_eq!(found("#[allow(unused)] fn ignore(list: [u8; 2]) {}"), 0);
    }

    #[test]
    fn the_line_is_right() {
        assert_eq!(check(&source::sample("\nfn f() {\n    todo!()\n}"))[0].line, 3);
    }
}
