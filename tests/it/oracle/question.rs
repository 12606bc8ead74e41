//! Makes random questions in SQL, nested and typed, that can be made smaller piece by piece.
//!
//! Every answer is a bag of rows that does not depend on the order in which rows are read: no floats are
//! summed, first rows are taken in an order of all columns, and nothing can fail on a row.

use super::rng::Rng;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Decimal,
    Text,
    Bool,
    Time,
}

/// The columns `c0`, `c1` … of a question, or those of a stream or table.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) name: String,
    pub(super) columns: Vec<(String, Kind)>,
    /// Whether it has a watermark, so that windows may be laid over it.
    pub(super) timed: bool,
}

/// A piece of SQL.
#[derive(Debug, Clone)]
pub(super) struct Node {
    parts: Vec<Part>,
    instead: Vec<Instead>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Node(Node),
}

/// What may stand in a node's place.
#[derive(Debug, Clone)]
enum Instead {
    Text(String),
    /// The nth node among the parts.
    Child(usize),
}

impl Node {
    pub(super) fn text(text: impl Into<String>) -> Node {
        Node { parts: vec![Part::Text(text.into())], instead: vec![] }
    }

    /// `pattern` with a node at every `@`.
    pub(super) fn of(pattern: &str, nodes: Vec<Node>) -> Node {
        let mut texts = pattern.split('@');
        let mut parts = vec![Part::Text(texts.next().unwrap_or_default().into())];
        for node in nodes {
            parts.push(Part::Node(node));
            parts.push(Part::Text(texts.next().expect("a place for each node").into()));
        }
        assert!(texts.next().is_none(), "a node for each place of {pattern}");
        Node { parts, instead: vec![] }
    }

    pub(super) fn or_text(mut self, text: &str) -> Node {
        self.instead.push(Instead::Text(text.into()));
        self
    }

    pub(super) fn or_child(mut self, child: usize) -> Node {
        self.instead.push(Instead::Child(child));
        self
    }

    /// The SQL.
    pub(super) fn sql(&self) -> String {
        let mut sql = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => sql.push_str(text),
                Part::Node(node) => sql.push_str(&node.sql()),
            }
        }
        sql
    }

    /// Every node that is like this one but for one piece, which is smaller.
    pub(super) fn smaller(&self) -> Vec<Node> {
        let children: Vec<&Node> = self
            .parts
            .iter()
            .filter_map(|part| if let Part::Node(node) = part { Some(node) } else { None })
            .collect();
        let mut all: Vec<Node> = self
            .instead
            .iter()
            .map(|instead| match instead {
                Instead::Text(text) => Node::text(text.clone()),
                Instead::Child(child) => children[*child].clone(),
            })
            .collect();
        for (place, part) in self.parts.iter().enumerate() {
            let Part::Node(node) = part else { continue };
            for node in node.smaller() {
                let mut copy = self.clone();
                copy.parts[place] = Part::Node(node);
                all.push(copy);
            }
        }
        all
    }
}

/// Names and kinds that an expression may use.
type Scope = Vec<(String, Kind)>;

/// Makes questions over relations.
pub(super) struct Asker<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) relations: &'a [Relation],
    aliases: usize,
}

const KINDS: [Kind; 6] = [Kind::Int, Kind::Int, Kind::Decimal, Kind::Text, Kind::Bool, Kind::Time];

fn literal(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "1",
        Kind::Decimal => "CAST(1.5 AS NUMERIC(10, 2))",
        Kind::Text => "'a'",
        Kind::Bool => "true",
        Kind::Time => "TIMESTAMP '2026-01-01 00:00:10'",
    }
}

impl Asker<'_> {
    /// A question of columns `c0`, `c1` …
    pub(super) fn question<'a>(
        rng: &'a mut Rng,
        relations: &'a [Relation],
    ) -> (Node, Vec<(String, Kind)>) {
        let mut asker = Asker { rng, relations, aliases: 0 };
        let kinds = asker.kinds();
        (asker.query(&kinds, 3), named(&kinds))
    }

    fn kinds(&mut self) -> Vec<Kind> {
        (0..self.rng.between(1, 5)).map(|_| self.rng.pick(&KINDS)).collect()
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    fn query(&mut self, kinds: &[Kind], depth: usize) -> Node {
        if depth == 0 {
            return self.select(kinds, 0);
        }
        match self.rng.index(14) {
            0 | 1 => {
                let operation =
                    self.rng.pick(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT", "EXCEPT ALL"]);
                let (left, right) = (self.select(kinds, depth - 1), self.select(kinds, depth - 1));
                Node::of(&format!("@ {operation} @"), vec![left, right]).or_child(0).or_child(1)
            }
            2 => {
                let (skip, fetch) = (self.rng.pick(&[0, 0, 1]), self.rng.between(1, 6));
                let (alias, inner) = (self.alias(), self.query(kinds, depth - 1));
                let skip = if skip > 0 { format!(" OFFSET {skip}") } else { String::new() };
                let order = self.order(&alias, kinds.len());
                let text =
                    format!("SELECT * FROM (@) AS {alias} ORDER BY {order} LIMIT {fetch}{skip}");
                Node::of(&text, vec![inner]).or_child(0)
            }
            3 => {
                let (alias, inner) = (self.alias(), self.query(kinds, depth - 1));
                let order = self.order(&alias, kinds.len());
                let names: Vec<_> = named(kinds).into_iter().map(|(name, _)| name).collect();
                let (names, most) = (names.join(", "), self.rng.between(1, 4));
                let text = format!(
                    "SELECT {names} FROM (SELECT *, row_number() OVER (PARTITION BY {alias}.c0 \
                     ORDER BY {order}) AS nth FROM (@) AS {alias}) AS {alias}n WHERE nth <= {most}"
                );
                Node::of(&text, vec![inner]).or_child(0)
            }
            4 => {
                let (alias, inner) = (self.alias(), self.query(kinds, depth - 1));
                let order = self.order(&alias, kinds.len());
                let text = format!(
                    "SELECT DISTINCT ON ({alias}.c0) * FROM (@) AS {alias} ORDER BY {order}"
                );
                // The columns of DISTINCT ON have to come first in the order, which they do.
                Node::of(&text, vec![inner]).or_child(0)
            }
            5 => self.with(kinds, depth),
            6 => self.over(kinds, depth),
            _ => self.select(kinds, depth),
        }
    }

    /// An order of all columns, `c0` first, so that rows that tie are equal.
    fn order(&mut self, alias: &str, columns: usize) -> String {
        let ways = ["", " DESC", " DESC NULLS LAST", " NULLS FIRST"];
        let column = |i: usize, way: &str| format!("{alias}.c{i}{way}");
        let columns: Vec<_> = (0..columns).map(|i| column(i, self.rng.pick(&ways))).collect();
        columns.join(", ")
    }

    /// A common table expression that is used twice.
    fn with(&mut self, kinds: &[Kind], depth: usize) -> Node {
        let (name, inner_kinds) = (self.alias(), self.kinds());
        let inner = self.query(&inner_kinds, depth - 1);
        let (a, b) = (self.alias(), self.alias());
        let scope = |alias: &str| -> Scope {
            named(&inner_kinds)
                .into_iter()
                .map(|(c, kind)| (format!("{alias}.{c}"), kind))
                .collect()
        };
        let both = [scope(&a), scope(&b)].concat();
        let on = self.condition_between(&scope(&a), &scope(&b), 1);
        let items = self.items(kinds, &both, 1);
        let kind = self.rng.pick(&["JOIN", "LEFT JOIN"]);
        let text =
            format!("WITH {name} AS (@) SELECT @ FROM {name} AS {a} {kind} {name} AS {b} ON @");
        Node::of(&text, vec![inner, items, on])
    }

    /// Functions over windows of the whole answer of a question.
    fn over(&mut self, kinds: &[Kind], depth: usize) -> Node {
        let inner_kinds = [vec![Kind::Int], self.kinds()].concat();
        let (alias, inner) = (self.alias(), self.query(&inner_kinds, depth - 1));
        let scope: Scope = named(&inner_kinds)
            .into_iter()
            .map(|(column, kind)| (format!("{alias}.{column}"), kind))
            .collect();
        let order = self.order(&alias, inner_kinds.len());
        let partition = if self.rng.one_in(2) { "PARTITION BY @ " } else { "" };
        let mut called = false;
        let mut items = Vec::new();
        for (i, kind) in kinds.iter().enumerate() {
            if *kind != Kind::Int || called {
                items.push(Node::of(&format!("@ AS c{i}"), vec![self.expr(&scope, *kind, 1)]));
                continue;
            }
            called = true;
            let call = self.rng.pick(&[
                "sum($)",
                "count(*)",
                "min($)",
                "max($)",
                "rank()",
                "row_number()",
                "dense_rank()",
            ]);
            let call = call.replace('$', &format!("{alias}.c0"));
            let partition = partition.replace('@', &self.rng.pick(&scope).0);
            items.push(Node::text(format!("{call} OVER ({partition}ORDER BY {order}) AS c{i}")));
        }
        let pattern = vec!["@"; items.len()].join(", ");
        items.push(inner);
        Node::of(&format!("SELECT {pattern} FROM (@) AS {alias}"), items)
    }

    fn select(&mut self, kinds: &[Kind], depth: usize) -> Node {
        let (from, scope) = self.from(depth);
        let filter = match self.rng.one_in(2) {
            true => Node::of(" WHERE @", vec![self.filter(&scope, depth)]).or_text(""),
            false => Node::text(""),
        };
        if self.rng.one_in(3) {
            return self.grouped(kinds, (from, scope), filter);
        }
        let distinct = if self.rng.one_in(6) { "DISTINCT " } else { "" };
        let items = self.items(kinds, &scope, 2);
        Node::of(&format!("SELECT {distinct}@ FROM @@"), vec![items, from, filter])
    }

    fn items(&mut self, kinds: &[Kind], scope: &Scope, depth: usize) -> Node {
        let items = kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| Node::of(&format!("@ AS c{i}"), vec![self.expr(scope, *kind, depth)]));
        let items: Vec<Node> = items.collect();
        Node::of(&vec!["@"; items.len()].join(", "), items)
    }

    fn grouped(&mut self, kinds: &[Kind], (from, scope): (Node, Scope), filter: Node) -> Node {
        let keys: Vec<(String, Kind)> =
            (0..self.rng.index(4)).map(|_| self.rng.pick(&scope)).collect();
        let mut nodes = Vec::new();
        for (i, kind) in kinds.iter().enumerate() {
            let key = keys.iter().find(|(_, k)| k == kind).filter(|_| self.rng.one_in(2));
            let item = match key {
                Some((name, _)) => Node::text(name.clone()),
                None => self.aggregate(&scope, *kind),
            };
            nodes.push(Node::of(&format!("@ AS c{i}"), vec![item]));
        }
        let items = vec!["@"; nodes.len()].join(", ");
        let names: Vec<String> = keys.iter().map(|(name, _)| name.clone()).collect();
        let group = match (names.len(), self.rng.index(8)) {
            (0, _) => String::new(),
            (2.., 0) => format!(" GROUP BY ROLLUP ({})", names.join(", ")),
            (2.., 1) => {
                format!(" GROUP BY GROUPING SETS (({}), ({}))", names[0], names[1..].join(", "))
            }
            _ => format!(" GROUP BY {}", names.join(", ")),
        };
        let having = match self.rng.one_in(5) {
            true => Node::of(" HAVING @ > 1", vec![self.aggregate(&scope, Kind::Int)]).or_text(""),
            false => Node::text(""),
        };
        nodes.extend([from, filter, having]);
        Node::of(&format!("SELECT {items} FROM @@{group}@"), nodes)
    }

    /// One to three inputs, joined.
    fn from(&mut self, depth: usize) -> (Node, Scope) {
        let (mut from, mut scope) = self.factor(depth);
        let joins = if depth == 0 { 0 } else { self.rng.pick(&[0, 0, 1, 1, 2]) };
        for _ in 0..joins {
            let (right, right_scope) = self.factor(depth - 1);
            let kind = self.rng.pick(&["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            let on = self.condition_between(&scope, &right_scope, 1);
            scope.extend(right_scope);
            from = Node::of(&format!("@ {kind} @ ON @"), vec![from, right, on]);
        }
        if depth > 0 && self.rng.one_in(8) {
            let (constant, constant_scope) = self.constant_rows();
            let kind = self.rng.pick(&["JOIN", "LEFT JOIN"]);
            let on = self.condition_between(&scope, &constant_scope, 1);
            scope.extend(constant_scope);
            from = Node::of(&format!("@ {kind} @ ON @"), vec![from, constant, on]);
        }
        (from, scope)
    }

    /// Rows that no log holds.
    fn constant_rows(&mut self) -> (Node, Scope) {
        let (alias, kinds) = (self.alias(), self.kinds());
        let first: Vec<&str> = kinds.iter().map(|kind| literal(*kind)).collect();
        let mut rows = vec![format!("({})", first.join(", "))];
        for _ in 0..self.rng.index(4) {
            let mut row = Vec::new();
            for kind in &kinds {
                row.push(if self.rng.one_in(5) { "NULL".into() } else { self.value(*kind) });
            }
            rows.push(format!("({})", row.join(", ")));
        }
        let columns: Vec<String> = named(&kinds).into_iter().map(|(name, _)| name).collect();
        let text = format!("(VALUES {}) AS {alias}({})", rows.join(", "), columns.join(", "));
        let scope = named(&kinds).into_iter().map(|(name, kind)| (format!("{alias}.{name}"), kind));
        (Node::text(text), scope.collect())
    }

    fn factor(&mut self, depth: usize) -> (Node, Scope) {
        let alias = self.alias();
        let named_here = |columns: &[(String, Kind)]| -> Scope {
            columns.iter().map(|(name, kind)| (format!("{alias}.{name}"), *kind)).collect()
        };
        if depth > 0 && self.rng.one_in(3) {
            let kinds = self.kinds();
            let inner = self.query(&kinds, depth - 1);
            let base = self.relations[0].clone();
            let plain: Vec<String> = kinds
                .iter()
                .zip(0..)
                .map(|(kind, i)| {
                    let column = base.columns.iter().find(|(_, k)| k == kind);
                    let column = column.map_or(literal(*kind), |(name, _)| name);
                    format!("{column} AS c{i}")
                })
                .collect();
            let plain = format!("(SELECT {} FROM {}) AS {alias}", plain.join(", "), base.name);
            let node = Node::of(&format!("(@) AS {alias}"), vec![inner]).or_text(&plain);
            return (node, named_here(&named(&kinds)));
        }
        let relation = self.rng.pick(self.relations);
        let mut scope = named_here(&relation.columns);
        if self.rng.one_in(8) {
            scope.push((format!("{alias}.n"), Kind::Int));
            let ints = relation.columns.iter().filter(|(_, kind)| *kind == Kind::Int);
            let item = ints.map(|(name, _)| format!("r.{name}")).next().unwrap_or("NULL".into());
            let rows = format!(
                "(SELECT r.*, u.n FROM {} AS r CROSS JOIN UNNEST([{item}, 1, {item}]) AS u(n))",
                relation.name
            );
            return (Node::text(format!("{rows} AS {alias}")), scope);
        }
        if relation.timed && self.rng.one_in(6) {
            let window = self.rng.pick(&[
                "TUMBLE(@, at, INTERVAL '7 seconds')",
                "HOP(@, at, INTERVAL '3 seconds', INTERVAL '10 seconds')",
            ]);
            scope.push((format!("{alias}.window_start"), Kind::Time));
            scope.push((format!("{alias}.window_end"), Kind::Time));
            return (
                Node::text(format!("{} AS {alias}", window.replace('@', &relation.name))),
                scope,
            );
        }
        (Node::text(format!("{} AS {alias}", relation.name)), scope)
    }

    /// A condition over two inputs, mostly with an equality.
    fn condition_between(&mut self, left: &Scope, right: &Scope, depth: usize) -> Node {
        let pairs: Vec<String> = left
            .iter()
            .flat_map(|(a, kind)| {
                let of = right.iter().filter(move |(_, other)| other == kind);
                of.map(move |(b, _)| format!("{a} = {b}"))
            })
            .collect();
        let both = [left.clone(), right.clone()].concat();
        if pairs.is_empty() || self.rng.one_in(12) {
            return self.expr(&both, Kind::Bool, depth);
        }
        let equal = Node::text(self.rng.pick(&pairs));
        match self.rng.one_in(4) {
            true => {
                let more = self.expr(&both, Kind::Bool, depth);
                Node::of("@ AND @", vec![equal, more]).or_child(0)
            }
            false => equal,
        }
    }

    /// A condition that may ask another relation.
    fn filter(&mut self, scope: &Scope, depth: usize) -> Node {
        let plain = self.expr(scope, Kind::Bool, 2);
        if depth == 0 || !self.rng.one_in(4) {
            return plain;
        }
        let (name, kind) = self.rng.pick(scope);
        let asked = match self.rng.index(4) {
            0 => {
                let not = self.rng.pick(&["", "", "NOT "]);
                let inner = self.query(&[kind], depth - 1);
                Node::of(&format!("{name} {not}IN (@)"), vec![inner])
            }
            1 | 2 => {
                let not = self.rng.pick(&["", "NOT "]);
                let (mut from, mut inner) = self.factor(depth - 1);
                if self.rng.one_in(3) {
                    // Both may have columns of one name.
                    let (right, right_scope) = self.factor(depth - 1);
                    let on = self.condition_between(&inner, &right_scope, 1);
                    inner.extend(right_scope);
                    from = Node::of("@ JOIN @ ON @", vec![from, right, on]);
                }
                let on = self.condition_between(scope, &inner, 1);
                let (name, kind) = self.rng.pick(&inner);
                let on = match self.rng.one_in(3) {
                    true => {
                        let outer = self.expr(scope, kind, 0);
                        Node::of(&format!("@ AND {name} = @"), vec![on, outer]).or_child(0)
                    }
                    false => on,
                };
                Node::of(&format!("{not}EXISTS (SELECT 1 FROM @ WHERE @)"), vec![from, on])
            }
            _ => {
                let (from, inner) = self.factor(depth - 1);
                let largest = self.aggregate(&inner, kind);
                Node::of(&format!("{name} >= (SELECT @ FROM @)"), vec![largest, from])
            }
        };
        let word = self.rng.pick(&["AND", "AND", "AND", "OR"]);
        Node::of(&format!("(@ {word} @)"), vec![asked, plain]).or_child(0).or_child(1)
    }

    /// An aggregate whose answer is of a kind.
    fn aggregate(&mut self, scope: &Scope, kind: Kind) -> Node {
        let filter = match self.rng.one_in(6) {
            true => {
                Node::of(" FILTER (WHERE @)", vec![self.expr(scope, Kind::Bool, 1)]).or_text("")
            }
            false => Node::text(""),
        };
        let call = match (kind, self.rng.index(7)) {
            (Kind::Int, 0) => Node::text("count(*)"),
            (Kind::Int, 1) => {
                let kind = self.rng.pick(&KINDS);
                Node::of("count(DISTINCT @)", vec![self.expr(scope, kind, 1)])
            }
            (Kind::Int | Kind::Decimal, 2) => Node::of("sum(@)", vec![self.expr(scope, kind, 1)]),
            (Kind::Int, 3) => {
                let kind = self.rng.pick(&KINDS);
                Node::of("count(@)", vec![self.expr(scope, kind, 1)])
            }
            (Kind::Int, 4) => Node::of("bit_xor(DISTINCT @)", vec![self.expr(scope, kind, 1)]),
            (Kind::Int, 5) => {
                let pair = vec![self.expr(scope, kind, 1), self.expr(scope, kind, 1)];
                Node::of("regr_count(DISTINCT @, @)", pair)
            }
            (Kind::Text, 2) => {
                Node::of("string_agg(DISTINCT @, '/')", vec![self.expr(scope, kind, 1)])
            }
            (Kind::Bool, way) => {
                let function = ["bool_and(@)", "bool_or(@)"][way % 2];
                Node::of(function, vec![self.expr(scope, kind, 1)])
            }
            (_, way) => {
                let function = ["min(@)", "max(@)"][way % 2];
                Node::of(function, vec![self.expr(scope, kind, 1)])
            }
        };
        Node::of("@@", vec![call, filter])
    }

    fn expr(&mut self, scope: &Scope, kind: Kind, depth: usize) -> Node {
        let columns: Vec<&(String, Kind)> = scope.iter().filter(|(_, k)| *k == kind).collect();
        if !columns.is_empty() && (depth == 0 || self.rng.one_in(2)) {
            return Node::text(columns[self.rng.index(columns.len())].0.clone());
        }
        if depth == 0 || self.rng.one_in(6) {
            return Node::text(self.value(kind));
        }
        let child = depth - 1;
        if self.rng.one_in(5) {
            let condition = self.expr(scope, Kind::Bool, child);
            let (a, b) = (self.expr(scope, kind, child), self.expr(scope, kind, child));
            return Node::of("CASE WHEN @ THEN @ ELSE @ END", vec![condition, a, b])
                .or_child(1)
                .or_child(2);
        }
        if self.rng.one_in(6) {
            let pattern = self.rng.pick(&["coalesce(@, @)", "nullif(@, @)"]);
            let (a, b) = (self.expr(scope, kind, child), self.expr(scope, kind, child));
            return Node::of(pattern, vec![a, b]).or_child(0).or_child(1);
        }
        self.operation(scope, kind, child).or_text(literal(kind))
    }

    fn value(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Int => self.rng.between(-3, 9).to_string(),
            Kind::Text => self.rng.pick(&["'a'", "'b'", "''", "'ü'"]).into(),
            Kind::Bool => self.rng.pick(&["true", "false", "NULL::BOOLEAN"]).into(),
            Kind::Decimal | Kind::Time => literal(kind).into(),
        }
    }

    fn operation(&mut self, scope: &Scope, kind: Kind, child: usize) -> Node {
        let one = |asker: &mut Self, pattern: &str, kind: Kind| {
            Node::of(pattern, vec![asker.expr(scope, kind, child)])
        };
        let two = |asker: &mut Self, pattern: &str, kind: Kind| {
            let (a, b) = (asker.expr(scope, kind, child), asker.expr(scope, kind, child));
            Node::of(pattern, vec![a, b])
        };
        match (kind, self.rng.index(10)) {
            (Kind::Int, 0 | 1) => two(self, "(@ + @)", Kind::Int),
            (Kind::Int, 2) => one(self, "abs(@)", Kind::Int),
            (Kind::Int, 3) => one(self, "(@ % 3)", Kind::Int),
            (Kind::Int, 4) => one(self, "CAST(@ AS BIGINT)", Kind::Bool),
            (Kind::Int, 5) => one(self, "CAST(character_length(@) AS BIGINT)", Kind::Text),
            (Kind::Int, 6) => two(self, "[@, @][2]", Kind::Int),
            (Kind::Int, 7) => {
                let document = "CAST('{\"n\": [' || CAST(@ AS TEXT) || ']}' AS JSON)";
                one(self, &format!("CAST({document} #>> '{{n,0}}' AS BIGINT)"), Kind::Int)
            }
            (Kind::Int, _) => two(self, "(@ - @)", Kind::Int),
            (Kind::Decimal, 0..4) => two(self, "CAST(@ + @ AS NUMERIC(10, 2))", Kind::Decimal),
            (Kind::Decimal, _) => one(self, "CAST(@ AS NUMERIC(10, 2))", Kind::Int),
            (Kind::Text, 0..3) => two(self, "substr(@ || @, 1, 5)", Kind::Text),
            (Kind::Text, 3) => one(self, "upper(@)", Kind::Text),
            (Kind::Text, 4) => {
                one(self, "(CAST('{\"t\": \"' || @ || '\"}' AS JSON) ->> 't')", Kind::Text)
            }
            (Kind::Text, 5) => two(self, "named_struct('a', @, 'b', @)['b']", Kind::Text),
            (Kind::Text, _) => one(self, "CAST(@ AS TEXT)", Kind::Int),
            (Kind::Time, 0..5) => one(self, "date_trunc('minute', @)", Kind::Time),
            (Kind::Time, _) => one(self, "(@ + INTERVAL '5 seconds')", Kind::Time),
            (Kind::Bool, 0) => two(self, "(@ AND @)", Kind::Bool).or_child(0).or_child(1),
            (Kind::Bool, 1) => two(self, "(@ OR @)", Kind::Bool).or_child(0).or_child(1),
            (Kind::Bool, 2) => one(self, "(NOT @)", Kind::Bool).or_child(0),
            (Kind::Bool, way) => {
                let kind = self.rng.pick(&KINDS);
                match way {
                    3 => one(self, "(@ IS NULL)", kind),
                    4 => two(self, "(@ IS DISTINCT FROM @)", kind),
                    5 => one(self, "(@ IN (1, 3, NULL))", Kind::Int),
                    6 => one(self, "(@ LIKE 'a%')", Kind::Text),
                    7 => two(self, "(@ = ANY ([@, 1, NULL]))", Kind::Int),
                    8 => {
                        let document = "CAST('{\"n\": ' || CAST(@ AS TEXT) || '}' AS JSON)";
                        one(self, &format!("({document} ? 'n')"), Kind::Int)
                    }
                    _ => {
                        let sign = self.rng.pick(&["<", "<=", "=", "<>"]);
                        two(self, &format!("(@ {sign} @)"), kind)
                    }
                }
            }
        }
    }
}

fn named(kinds: &[Kind]) -> Vec<(String, Kind)> {
    kinds.iter().enumerate().map(|(i, kind)| (format!("c{i}"), *kind)).collect()
}
