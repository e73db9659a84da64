//! Tables of locks and holders, for people and as JSON.

use comfy_table::{Table, presets};
use pilotman::backend::Inspection;
use serde_json::{Value, json};

use crate::duration::shown;
use crate::events::{age, holders, printable};

/// A table with these headings: plain columns, which a terminal shows as well as a mail of cron.
pub(crate) fn with_header(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// The table as text, without the blanks around it.
pub(crate) fn text(table: &Table) -> String {
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// One line per holder, and one for a lock without any.
pub(crate) fn of_locks(inspections: &[Inspection]) -> String {
    let mut table = with_header(&["NAME", "HELD BY", "AS", "SINCE", "REMAINING", "TOKEN", "WAITING"]);
    for inspection in inspections {
        let name = printable(name(inspection));
        let waiting = inspection.waiters.map_or("-".into(), |waiters| waiters.to_string());
        if inspection.holders.is_empty() {
            let token = inspection.token.map_or("-".into(), |token| token.to_string());
            table.add_row([name.as_str(), "nobody", "-", "-", "-", &token, &waiting]);
        }
        for holder in &inspection.holders {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            table.add_row([
                name.clone(),
                printable(&holder.owner),
                holder.primitive.unwrap_or("-").into(),
                or_dash(age(holder).map(shown)),
                or_dash(holder.remaining.map(shown)),
                or_dash(holder.token.or(inspection.token).map(|token| token.to_string())),
                waiting.clone(),
            ]);
        }
    }
    text(&table)
}

/// The logical name where it is known, else the physical one.
pub(crate) fn name(inspection: &Inspection) -> &str {
    inspection.name.as_deref().unwrap_or(&inspection.physical)
}

/// A lock as JSON.
pub(crate) fn json(inspection: &Inspection) -> Value {
    json!({
        "name": inspection.name,
        "physical": inspection.physical,
        "held": !inspection.holders.is_empty(),
        "holders": holders(inspection),
        "waiters": inspection.waiters,
        "token": inspection.token,
    })
}
