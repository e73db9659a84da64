use super::*;
use std::path::Path;

const DOCUMENTED: &str = "
    /// Takes it.
    ///
    /// # Errors
    ///
    /// When it is gone.
    ///
    /// # Cancel safety
    ///
    /// Leaves nothing.
    ///
    /// # Cost
    ///
    /// One round trip.
";

fn found(text: &str) -> Vec<String> {
    check(&[&source::sample(text)]).into_iter().map(|finding| finding.message).collect()
}

#[test]
fn a_documented_function_passes() {
    assert_eq!(found(&format!("{DOCUMENTED} pub async fn acquire() {{}}")), [""; 0]);
    assert_eq!(found(&format!("impl Mutex {{ {DOCUMENTED} pub async fn acquire(&self) {{}} }}")), [""; 0]);
}

#[test]
fn each_missing_section_is_named() {
    for title in SECTIONS {
        let text = DOCUMENTED.replace(&format!("# {title}"), "# Something else");
        let found = found(&format!("{text} pub async fn acquire() {{}}"));
        assert_eq!(found, [format!("the public async fn `acquire` has no `# {title}` in its documentation")]);
    }
    let found = found("/// Takes it.\npub async fn acquire() {}");
    assert!(found[0].contains("`# Errors`, `# Cancel safety`, `# Cost`"), "{found:?}");
}

#[test]
fn an_empty_section_does_not_count() {
    let text = DOCUMENTED.replace("/// Leaves nothing.", "///");
    assert_eq!(found(&format!("{text} pub async fn acquire() {{}}")).len(), 1);
    let text = DOCUMENTED.replace("/// One round trip.", "///");
    assert_eq!(found(&format!("{text} pub async fn acquire() {{}}")).len(), 1);
}

#[test]
fn methods_traits_and_nested_modules_are_seen() {
    assert_eq!(found("impl Mutex { pub async fn acquire(&self) {} }").len(), 1);
    assert_eq!(found("pub trait Lock { async fn acquire(&self); }").len(), 1);
    assert_eq!(found("mod inner { pub async fn acquire() {} }").len(), 1);
    assert_eq!(found("pub fn acquire() -> impl Future<Output = ()> + Send { async {} }").len(), 1);
}

#[test]
fn what_is_not_public_or_not_async_is_left_alone() {
    assert_eq!(found("async fn a() {} pub(crate) async fn b() {} pub(super) async fn c() {}"), [""; 0]);
    assert_eq!(found("pub fn blocking() {} impl Mutex { async fn a(&self) {} }"), [""; 0]);
    assert_eq!(found("trait Private { async fn acquire(&self); }"), [""; 0]);
    assert_eq!(found("impl Lock for Mutex { async fn acquire(&self) {} }"), [""; 0]);
}

#[test]
fn test_code_is_left_alone_and_its_opposite_is_not() {
    assert_eq!(found("#[cfg(test)] mod tests { pub async fn helper() {} }"), [""; 0]);
    assert_eq!(found("#[cfg(all(test, unix))] mod tests { pub async fn helper() {} }"), [""; 0]);
    assert_eq!(found("#[cfg(not(test))] mod real { pub async fn acquire() {} }").len(), 1);

    let parse = |path: &str, text: &str| Source::parse(Path::new(path), text.to_owned()).unwrap();
    let parent = parse("src/lib.rs", "#[cfg(test)] mod tests;");
    let child = parse("src/tests.rs", "pub async fn helper() {}");
    let other = parse("src/testing.rs", "pub async fn helper() {}");
    assert_eq!(check(&[&parent, &child, &other]).len(), 1);
}

#[test]
fn functions_written_by_a_macro_are_seen() {
    let inside =
        |docs: &str| format!("macro_rules! acquires {{ () => {{ {docs} #[inline] pub async fn acquire() {{}} }} }}");
    assert_eq!(found(&inside(DOCUMENTED)), [""; 0]);
    assert_eq!(found(&inside("/// Takes it.\n")).len(), 1);
    assert_eq!(found("methods! { impl Mutex { pub async fn acquire(&self) {} } }").len(), 1);
}

#[test]
fn documentation_put_together_by_concat_counts() {
    let doc = |title: &str| format!("#[doc = concat!(\"# {title}\\n\\n\", \"Text.\\n\")]\n");
    let docs: String = SECTIONS.iter().map(|title| doc(title)).collect();
    assert_eq!(found(&format!("{docs} pub async fn acquire() {{}}")), [""; 0]);
}

#[test]
fn the_line_is_that_of_the_function() {
    let findings = check(&[&source::sample("\n\n/// Takes it.\npub async fn acquire() {}\n")]);
    assert_eq!((findings[0].file.as_str(), findings[0].line), ("sample.rs", 4));
}
