//! `SELECT`.

use std::cmp::Ordering;

use super::error::Stop;
use super::evaluate::{Row, compare, truth};
use super::run::Run;
use super::views::{Column, View};
use crate::sql::ast::{Expression, Item, Select};
use crate::wire::tokens::SqlError;
use crate::wire::types::{Type, Value};

/// Names and types of the columns.
type Heads = Vec<(String, Type)>;

/// More rows than any join of views here has.
const MOST_ROWS: usize = 1_000_000;

impl Run<'_> {
    /// A `SELECT` that stands alone: its rows go to the client, or its values into variables.
    pub(super) fn select_statement(&mut self, select: &Select) -> Result<(), Stop> {
        let assigns = select.items.iter().filter(|item| matches!(item, Item::Assign(..))).count();
        if assigns > 0 {
            if assigns < select.items.len() {
                let message = "A SELECT statement that assigns a value to a variable must not be combined with data-retrieval operations.";
                return Err(SqlError::new(141, message).class(15).into());
            }
            return self.select_into_variables(select);
        }
        let (heads, rows) = self.rows(select)?;
        self.reply.columns(&heads);
        for row in &rows {
            self.reply.row(&heads, row);
        }
        self.state.rows = rows.len() as u64;
        self.state.error = 0;
        self.done(Some(rows.len() as u64));
        Ok(())
    }

    fn select_into_variables(&mut self, select: &Select) -> Result<(), Stop> {
        let views = self.views(select)?;
        let mut assigned = Vec::new();
        let rows = self.joined(select, &views)?;
        self.state.rows = rows.len() as u64;
        for row in &rows {
            for item in &select.items {
                if let Item::Assign(name, value) = item {
                    assigned.push((name, self.evaluate(value, row)?));
                }
            }
        }
        for (name, value) in assigned {
            self.assign(name, &value)?;
        }
        self.state.error = 0;
        self.done(None);
        Ok(())
    }

    /// The rows of a query.
    pub(super) fn rows(&mut self, select: &Select) -> Result<(Heads, Vec<Vec<Value>>), Stop> {
        let views = self.views(select)?;
        let shapes: Vec<(&str, &[Column])> = select
            .from
            .iter()
            .zip(&views)
            .map(|(source, view)| (source.alias.as_str(), view.columns.as_slice()))
            .collect();
        let mut joined = self.joined(select, &views)?;
        if let [Item::Value(Expression::Count, name)] = select.items.as_slice() {
            let count = i64::try_from(joined.len()).unwrap_or(i64::MAX);
            return Ok((vec![(name.clone(), Type::Int)], vec![vec![Value::Int(count)]]));
        }
        self.sort(select, &mut joined)?;
        if let Some(top) = &select.top {
            let top = usize::try_from(self.value(top)?.whole()).unwrap_or(0);
            joined.truncate(top);
        }
        let mut rows = Vec::new();
        for row in &joined {
            rows.push(self.project(select, row)?);
        }
        let heads = self.heads(select, &shapes, &rows);
        Ok((heads, rows))
    }

    fn project(&mut self, select: &Select, row: &Row<'_>) -> Result<Vec<Value>, Stop> {
        let mut values = Vec::new();
        for item in &select.items {
            match item {
                Item::All(alias) => {
                    let wanted = |own: &str| alias.as_ref().is_none_or(|alias| alias.eq_ignore_ascii_case(own));
                    let parts = row.parts.iter().filter(|(own, ..)| wanted(own));
                    values.extend(parts.flat_map(|(_, _, values)| values.iter().cloned()));
                }
                Item::Value(value, _) => values.push(self.evaluate(value, row)?),
                Item::Assign(..) => {}
            }
        }
        Ok(values)
    }

    fn heads(&self, select: &Select, shapes: &[(&str, &[Column])], rows: &[Vec<Value>]) -> Heads {
        let mut heads = Heads::new();
        for item in &select.items {
            match item {
                Item::All(alias) => {
                    let wanted = |own: &str| alias.as_ref().is_none_or(|alias| alias.eq_ignore_ascii_case(own));
                    let parts = shapes.iter().filter(|(own, _)| wanted(own));
                    heads.extend(parts.flat_map(|(_, columns)| columns.iter().map(|it| (it.name.to_owned(), it.kind))));
                }
                Item::Value(value, name) => {
                    let place = heads.len();
                    let first = || rows.iter().filter_map(|row| row.get(place)).find(|value| **value != Value::Null);
                    let kind = self.type_of(value, shapes).or_else(|| first().map(Value::kind));
                    heads.push((name.clone(), kind.unwrap_or(Type::Int)));
                }
                Item::Assign(..) => {}
            }
        }
        heads
    }

    fn views(&mut self, select: &Select) -> Result<Vec<View>, Stop> {
        let mut views = Vec::new();
        for source in &select.from {
            views.push(self.view(&source.view)?);
        }
        Ok(views)
    }

    /// The rows of all sources, joined and filtered.
    fn joined<'v>(&mut self, select: &'v Select, views: &'v [View]) -> Result<Vec<Row<'v>>, Stop> {
        let mut rows = vec![Row::default()];
        for (source, view) in select.from.iter().zip(views) {
            let mut longer = Vec::new();
            for row in &rows {
                let mut found = false;
                for values in &view.rows {
                    let mut row = row.clone();
                    row.parts.push((source.alias.as_str(), view.columns.as_slice(), values.clone()));
                    let fits = match &source.on {
                        Some(on) => truth(&self.evaluate(on, &row)?),
                        None => true,
                    };
                    if fits {
                        found = true;
                        longer.push(row);
                    }
                }
                if source.outer && !found {
                    let mut row = row.clone();
                    let nothing = vec![Value::Null; view.columns.len()];
                    row.parts.push((source.alias.as_str(), view.columns.as_slice(), nothing));
                    longer.push(row);
                }
                if longer.len() > MOST_ROWS {
                    return Err(SqlError::new(701, "There is insufficient system memory to run this query.").into());
                }
            }
            rows = longer;
        }
        let mut kept = Vec::new();
        for row in rows {
            let fits = match &select.condition {
                Some(condition) => truth(&self.evaluate(condition, &row)?),
                None => true,
            };
            if fits {
                kept.push(row);
            }
        }
        Ok(kept)
    }

    fn sort(&mut self, select: &Select, rows: &mut Vec<Row<'_>>) -> Result<(), Stop> {
        if select.order.is_empty() {
            return Ok(());
        }
        let mut keyed = Vec::new();
        for row in rows.drain(..) {
            let mut key = Vec::new();
            for (by, down) in &select.order {
                key.push((self.evaluate(by, &row)?, *down));
            }
            keyed.push((key, row));
        }
        keyed.sort_by(|(left, _), (right, _)| {
            let parts = left.iter().zip(right).map(|((left, down), (right, _))| {
                // NULL is the smallest.
                let order = match (left, right) {
                    (Value::Null, Value::Null) => Ordering::Equal,
                    (Value::Null, _) => Ordering::Less,
                    (_, Value::Null) => Ordering::Greater,
                    (left, right) => compare(left, right, false).unwrap_or(Ordering::Equal),
                };
                if *down { order.reverse() } else { order }
            });
            parts.into_iter().find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal)
        });
        rows.extend(keyed.into_iter().map(|(_, row)| row));
        Ok(())
    }
}
