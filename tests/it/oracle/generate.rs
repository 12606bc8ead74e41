//! Makes a case out of a seed: schema, disordered rows with duplicates and nulls, and a query.

use super::case::{
    Aggregate, Case, Column, Emit, Function, Kind, Outer, Predicate, Query, Row, TimeLine, Value,
    Window,
};
use super::rng::Rng;

pub(super) fn case(seed: u64) -> Case {
    let mut rng = Rng::new(seed);
    let time = TimeLine {
        logical: rng.one_in(5),
        // The second begins before 1970.
        base: rng.pick(&[1_767_225_600, -17, 951_782_399]),
    };
    let columns = columns(&mut rng);
    let bound = rng.pick(&[0, 0, 2, 5, 20]);
    let query = query(&mut rng, &columns);
    let rows = rows(&mut rng, &columns, query.union);
    Case { seed, time, columns, bound, rows, query }
}

fn columns(rng: &mut Rng) -> Vec<Column> {
    let kinds = [
        Kind::Small,
        Kind::Int,
        Kind::Big,
        Kind::Real,
        Kind::Double,
        Kind::Numeric,
        Kind::Text,
        Kind::Bool,
        Kind::Time,
    ];
    let count = rng.between(2, 7);
    let mut columns: Vec<Column> = (0..count)
        .map(|index| Column {
            name: format!("c{index}"),
            kind: rng.pick(&kinds),
            nullable: !rng.one_in(3),
        })
        .collect();
    // At least one number and one text, so that every function has something to work on.
    columns[0].kind = rng.pick(&[Kind::Small, Kind::Int, Kind::Big, Kind::Numeric, Kind::Double]);
    columns[1].kind = Kind::Text;
    columns
}

fn value(rng: &mut Rng, column: &Column) -> Value {
    if column.nullable && rng.one_in(5) {
        return Value::Null;
    }
    match column.kind {
        Kind::Small | Kind::Int | Kind::Big => Value::Int(rng.between(-4, 9)),
        Kind::Real => Value::Float(rng.between(-40, 90) as f64 / 4.0),
        Kind::Double => Value::Float(rng.between(-40_000, 90_000) as f64 / 700.0),
        Kind::Numeric => Value::Numeric(rng.between(-500, 900)),
        Kind::Text => Value::Text(rng.pick(&["a", "b", "ü", "", "a text of some length"]).into()),
        Kind::Bool => Value::Bool(rng.one_in(2)),
        Kind::Time => Value::Time(rng.between(-3, 8)),
    }
}

fn rows(rng: &mut Rng, columns: &[Column], union: bool) -> Vec<Row> {
    let count = rng.pick(&[0, 1, 3, 10, 30, 60, 100]);
    let step = rng.pick(&[0, 1, 1, 2, 7]);
    let disorder = rng.pick(&[0, 0, 3, 10, 40]);
    let mut clock = rng.between(-20, 20);
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..count {
        if let Some(last) = rows.last().filter(|_| rng.clone().one_in(12)) {
            rng.next();
            rows.push(last.clone());
            continue;
        }
        clock += rng.between(0, step + 1);
        if rng.one_in(30) {
            clock += 40;
        }
        let at = clock - rng.between(0, disorder + 1);
        let stream = usize::from(union && rng.one_in(2));
        rows.push(Row { stream, at, values: columns.iter().map(|c| value(rng, c)).collect() });
    }
    rows
}

fn predicate(rng: &mut Rng, columns: &[Column]) -> Predicate {
    let index = rng.index(columns.len());
    match columns[index].kind {
        kind if kind.is_integer() => Predicate::Greater(index, rng.between(-3, 6)),
        Kind::Bool => Predicate::IsTrue(index),
        Kind::Text => Predicate::Is(index, rng.pick(&["a", "b", "ü", ""]).into()),
        _ => Predicate::NotNull(index),
    }
}

fn aggregate(rng: &mut Rng, columns: &[Column]) -> Aggregate {
    let column = rng.index(columns.len());
    let any = [
        Function::Count,
        Function::CountDistinct,
        Function::Min,
        Function::Max,
        Function::ArrayAgg,
    ];
    let numbers = [Function::Sum, Function::Avg, Function::Stddev, Function::Median, Function::Sum];
    let function = match rng.one_in(2) && columns[column].kind.is_number() {
        true => rng.pick(&numbers),
        false => rng.pick(&any),
    };
    let filter = rng.one_in(4).then(|| predicate(rng, columns));
    Aggregate { function, column, filter }
}

fn window(rng: &mut Rng, keyed: bool) -> Window {
    let size = rng.between(1, 30);
    let offset = rng.pick(&[0, 0, 1, -3, 100]);
    match rng.index(12) {
        0 => Window::Stateless,
        1 | 2 => Window::None,
        3 | 4 => Window::Tumble { size, offset },
        5 | 6 if size % 3 == 0 => {
            let sizes = vec![size, size / 3, size + 7];
            Window::Horizons { slide: rng.between(1, 20), sizes, offset }
        }
        5 | 6 => Window::Hop { slide: rng.between(1, 20), size, offset },
        7 => {
            let step = rng.between(1, 9);
            Window::Cumulate { step, size: step * rng.between(1, 6) }
        }
        8 | 9 => Window::Session { gap: rng.between(1, 8), partitioned: keyed && rng.one_in(2) },
        10 => Window::Punctuation { above: rng.between(0, 8), partitioned: keyed },
        _ => Window::Count {
            size: rng.between(1, 8),
            slide: rng.between(1, 8),
            partitioned: keyed,
            ordered: rng.one_in(3),
        },
    }
}

fn query(rng: &mut Rng, columns: &[Column]) -> Query {
    let mut keys: Vec<usize> = (0..columns.len())
        .filter(|index| !columns[*index].kind.is_float() && rng.one_in(4))
        .collect();
    keys.truncate(3);
    let window = window(rng, !keys.is_empty());
    let mut aggregates = vec![Aggregate { function: Function::CountRows, column: 0, filter: None }];
    for _ in 0..rng.index(5) {
        aggregates.push(aggregate(rng, columns));
    }
    let emit = match (rng.index(5), &window) {
        (0 | 1, Window::Stateless) => Emit::Default,
        (0, _) => Emit::Changes,
        (1, window) if *window != Window::Stateless => {
            let refinement = rng.pick(&["RETRACTING", "ACCUMULATING", "DISCARDING"]);
            Emit::EveryRows(rng.between(1, 5), refinement)
        }
        _ => Emit::Default,
    };
    let late = window.is_time() || window.drops_rows();
    let lateness = if late && rng.one_in(2) { rng.between(1, 40) } else { 0 };
    let has_bounds = !matches!(window, Window::Stateless | Window::None);
    let rows = has_bounds && !matches!(emit, Emit::EveryRows(..)) && rng.one_in(4);
    let near_start = (has_bounds && rng.one_in(4)).then(|| rng.between(0, 9));
    let aggregated = window.is_aggregated() && !rows;
    let stacks = matches!(emit, Emit::Default | Emit::Changes);
    let closes = window.is_time() || matches!(window, Window::Session { .. });
    let outer = (aggregated && stacks && rng.one_in(3)).then(|| {
        let size = rng.between(1, 60);
        match rng.index(6) {
            1 => Outer::Filter,
            2 if closes => Outer::Stacked(size),
            3 if closes && emit == Emit::Default => Outer::Inline(size),
            4 if closes => Outer::SameWindow,
            5 if closes => Outer::Sessions(size),
            _ => Outer::Group,
        }
    });
    let union = rng.one_in(5);
    Query {
        union,
        prefilter: rng.one_in(5).then(|| predicate(rng, columns)),
        window,
        keys,
        aggregates,
        predicate: rng.one_in(4).then(|| predicate(rng, columns)),
        near_start,
        rows,
        having: (aggregated && rng.one_in(6)).then(|| rng.between(0, 3)),
        emit,
        lateness,
        outer,
        twice: !union && rng.one_in(8),
    }
}
