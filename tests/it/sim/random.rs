//! Runs an engine through a life that a seed decides: clients, clock, faults, crashes, restarts.

use std::sync::Arc;
use std::task::Poll;

use weir::engine::{AckLevel, Producer};
use weir::log::storage::{Fault, MemoryStorage};
use weir::time::VirtualClock;

use super::audit::{Ending, audit};
use super::model::{Ask, BEGIN, Model, Request, Row, SECOND};
use super::plan::{
    BRIMMING, CHANGING, FORGETFUL, OBJECTS, QueryPlan, SHEDDING, TRIMMED, create, queries_of,
};
use super::remote::Remote;
use super::sinks::{self, SINKS, audit_sinks};
use super::world::{Asked, Setup, World};
use crate::oracle::rng::Rng;

/// Which clients there are: some send rows without and one with a producer, one changes the table, one
/// the queries, one closes lots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Rows,
    Producer,
    Table,
    Admin,
    /// Sends rows of lots, and closes lots.
    Lots,
    /// Sends to the streams that shed, more than fits.
    Flood,
}

const CLIENTS: [Client; 9] = [
    Client::Rows,
    Client::Rows,
    Client::Producer,
    Client::Table,
    Client::Admin,
    Client::Lots,
    Client::Flood,
    Client::Flood,
    Client::Flood,
];

const SINK_NAMES: [&str; 6] =
    ["to_pass", "to_tens", "to_total", "to_both", "to_members", "to_fives"];

/// What a life was like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    pub trace: u64,
    pub calls: u64,
    pub turns: u64,
    pub acks: u64,
    pub unanswered: u64,
    pub restarts: u64,
    pub faults: u64,
    /// Rows that were shed, rows that broke promises, rows that sinks brought, gaps.
    pub shed: u64,
    pub broken: usize,
    pub brought: i64,
    pub gaps: usize,
}

struct Simulation {
    rng: Rng,
    clock: Arc<VirtualClock>,
    disk: MemoryStorage,
    setup: Setup,
    queries: Vec<&'static QueryPlan>,
    model: Model,
    waiting: Vec<Option<(Ask, Asked)>>,
    next_id: i64,
    next_sequence: u64,
    /// The lot that was opened last.
    lot: i64,
    remote: Remote,
    life: Life,
}

/// Lives one life.
pub(crate) fn live(seed: u64) -> Life {
    let mut rng = Rng::new(seed);
    let setup = Setup {
        snapshot_interval: rng.pick(&[0, 0, SECOND, 5 * SECOND, i64::MAX]),
        step_rows: rng.pick(&[1, 3, 65_536]),
        segment_bytes: rng.pick(&[2_000, 6_000, 64 << 20]),
        queue_rows: rng.pick(&[4, 12, 1 << 20]),
    };
    let remote = Remote::new(rng.next());
    let mut simulation = Simulation {
        rng,
        clock: Arc::new(VirtualClock::new(BEGIN)),
        disk: MemoryStorage::new(),
        setup,
        queries: queries_of(seed),
        model: Model::new(),
        waiting: CLIENTS.iter().map(|_| None).collect(),
        next_id: 0,
        next_sequence: 1,
        lot: 0,
        remote,
        life: Life::default(),
    };
    simulation.run();
    simulation.life
}

impl Simulation {
    fn run(&mut self) {
        let mut world = self.open(Ending::Kill);
        for statement in OBJECTS {
            world.sql(statement).unwrap();
        }
        for plan in &self.queries {
            world.sql(&create(plan.name, plan.sql)).unwrap();
        }
        for plan in SINKS {
            world.sql(&sinks::create(plan)).unwrap();
        }
        let rounds = self.rng.between(1, 5);
        for round in 0..rounds {
            self.plan_faults();
            self.work(&world);
            let ending = self.end(world);
            world = self.open(ending);
            audit(&world, &mut self.model, ending, &self.queries, round + 1 == rounds);
            audit_sinks(&world, &self.model, &self.remote);
        }
        self.note(&world);
        self.life.acks = self.model.acks;
        self.life.unanswered = self.model.unanswered;
        let requests = &self.model.requests;
        self.life.shed = requests.iter().filter_map(|r| r.shed).map(|(.., shed)| shed).sum();
        self.life.broken = requests.iter().map(|request| request.closed.len()).sum();
        let tables = SINKS.iter().map(|sink| self.remote.table(sink.name).rows());
        self.life.brought = tables.flat_map(|rows| rows.into_values().collect::<Vec<_>>()).sum();
        self.life.gaps = self.model.seen.values().map(|seen| seen.gaps.len()).sum();
    }

    /// Opens the engine; it may be interrupted by another crash.
    fn open(&mut self, ending: Ending) -> World {
        loop {
            if self.rng.one_in(6) {
                let calls = self.rng.between(1, 40) as u64;
                self.disk.fail_call(calls, Fault::End);
            }
            let seed = self.rng.next();
            match World::open(&self.disk, &self.clock, seed, self.setup, Some(&self.remote)) {
                Ok(world) if !world.disk.has_ended() => {
                    // The disk of the last life counted its calls from 0 as this one does.
                    world.disk.forget_faults();
                    return world;
                }
                Err(error) if !self.disk.has_ended() => panic!("it does not open: {error}"),
                Ok(_) | Err(_) => {
                    self.life.restarts += 1;
                    self.disk = match ending {
                        Ending::PowerLoss => self.disk.crash(self.rng.next()),
                        Ending::Kill | Ending::Shutdown => self.disk.kill(),
                    };
                }
            }
        }
    }

    /// Some runs meet a fault, some end at a call in the middle of something.
    fn plan_faults(&mut self) {
        let now = self.disk.calls();
        let at = now + self.rng.between(1, 400) as u64;
        match self.rng.index(7) {
            6 => {
                self.disk.fail_read(self.rng.between(1, 30) as u64);
                self.life.faults += 1;
            }
            0 => {
                let fault = self.rng.pick(&[Fault::Error, Fault::NoSpace, Fault::Short]);
                self.disk.fail_call(at, fault);
                self.life.faults += 1;
            }
            1..=3 => self.disk.fail_call(at, Fault::End),
            _ => {}
        }
    }

    fn work(&mut self, world: &World) {
        for _ in 0..self.rng.between(50, 500) {
            if self.disk.has_ended() {
                return;
            }
            match self.rng.index(100) {
                0..=44 => drop(world.hands.turn()),
                45..=64 => self.poll(world),
                65..=84 => self.ask(world),
                85..=86 => self.burst(world),
                87..=91 => self.clock.advance(self.rng.between(1, 3_000) * 1_000),
                // They may meet a fault that is not theirs to tell of.
                92..=94 => drop(world.timers()),
                95..=96 => self.observe(world),
                97 => world.snapshots(),
                98 => world.engine.run_stopped(),
                _ => drop(world.retention()),
            }
        }
        if self.rng.one_in(2) {
            self.finish(world);
        }
    }

    /// Lets every client get its answer: nobody waits for ever.
    fn finish(&mut self, world: &World) {
        let mut idle = 0;
        while self.waiting.iter().any(Option::is_some) && !self.disk.has_ended() {
            idle = if world.hands.turn() { 0 } else { idle + 1 };
            let before = self.waiting.iter().flatten().count();
            (0..CLIENTS.len()).for_each(|client| self.poll_one(world, client));
            if self.waiting.iter().flatten().count() < before {
                idle = 0;
            }
            let waiting: Vec<_> = self.waiting.iter().flatten().map(|(ask, _)| ask).collect();
            assert!(idle < 3, "they wait for ever: {waiting:?}");
        }
    }

    fn end(&mut self, world: World) -> Ending {
        self.note(&world);
        let mut ending = self.rng.pick(&[Ending::Kill, Ending::PowerLoss, Ending::PowerLoss]);
        if !self.disk.has_ended() && self.rng.one_in(4) {
            ending = Ending::Shutdown;
            world.wait(world.engine.shutdown());
            (0..CLIENTS.len()).for_each(|client| self.poll_one(&world, client));
            if self.disk.failures() > 0 {
                // What could not be synced then is as good as after power loss.
                ending = Ending::PowerLoss;
            }
        }
        world.disk.end();
        for (ask, asked) in self.waiting.iter_mut().filter_map(Option::take) {
            drop(asked);
            self.model.answered(&ask, None);
        }
        drop(world);
        self.life.restarts += 1;
        self.disk = match ending {
            Ending::Kill => self.disk.kill(),
            // After an orderly end even that costs nothing.
            Ending::Shutdown | Ending::PowerLoss => self.disk.crash(self.rng.next()),
        };
        ending
    }

    fn note(&mut self, world: &World) {
        self.life.trace = self.life.trace.rotate_left(9) ^ self.disk.trace();
        self.life.calls += self.disk.calls();
        self.life.turns += world.hands.turns();
    }

    fn poll(&mut self, world: &World) {
        let client = self.rng.index(CLIENTS.len());
        self.poll_one(world, client);
    }

    fn poll_one(&mut self, world: &World, client: usize) {
        let Some((ask, asked)) = &mut self.waiting[client] else { return };
        if let Poll::Ready(answer) = world.poll(asked) {
            self.model.answered(ask, Some(answer));
            self.waiting[client] = None;
        }
    }

    /// A client that waits for nothing asks for something.
    fn ask(&mut self, world: &World) {
        let client = self.rng.index(CLIENTS.len());
        if self.waiting[client].is_some() {
            return;
        }
        let asked = match CLIENTS[client] {
            Client::Rows => {
                let stream = self.rng.pick(&["clicks", "clicks", "bids", "pulse"]);
                let number = self.request(stream, None);
                self.send(world, number)
            }
            Client::Producer => {
                let number = match self.model.unanswered_of("p") {
                    Some(number) => number,
                    None => {
                        self.next_sequence += 1;
                        self.request("bids", Some(("p", self.next_sequence)))
                    }
                };
                self.send(world, number)
            }
            Client::Table => self.change_table(world),
            Client::Admin => self.administer(world),
            Client::Lots => self.sell(world),
            Client::Flood => {
                let stream = self.rng.pick(&SHEDDING);
                let number = self.request(stream, None);
                self.send(world, number)
            }
        };
        self.waiting[client] = Some(asked);
    }

    fn request(&mut self, stream: &'static str, producer: Option<(&'static str, u64)>) -> usize {
        let now = weir::time::Clock::now(&*self.clock);
        let rows = (0..self.rng.between(1, 6)).map(|_| {
            self.next_id += 1;
            let at = now - self.rng.between(0, 25) * self.rng.between(0, 1_000) * 1_000;
            Row {
                id: self.next_id,
                k: self.rng.between(0, 4),
                v: self.rng.between(-3, 12),
                at: (!self.rng.one_in(20)).then_some(at),
            }
        });
        let rows = rows.collect();
        let ack = self.rng.pick(&[None, None, Some(AckLevel::Processed)]);
        self.model.requests.push(Request { ack, producer, ..Request::new(stream, rows) });
        self.model.requests.len() - 1
    }

    /// More rows at once than a short queue has room for.
    fn burst(&mut self, world: &World) {
        let stream = self.rng.pick(&SHEDDING);
        for client in (0..CLIENTS.len()).filter(|client| CLIENTS[*client] == Client::Flood) {
            if self.waiting[client].is_none() {
                let number = self.request(stream, None);
                self.waiting[client] = Some(self.send(world, number));
            }
            self.poll_one(world, client);
        }
    }

    /// Rows of lots, closed ones too, or the promise that a lot is closed.
    fn sell(&mut self, world: &World) -> (Ask, Asked) {
        if self.rng.one_in(4) {
            let lot = self.lot - self.rng.between(0, 3);
            self.lot += 1;
            return (Ask::Promise(lot), world.ask_sql(format!("PUNCTUATE lots WHERE k = {lot}")));
        }
        let number = self.request("lots", None);
        let (lot, rng) = (self.lot, &mut self.rng);
        let request = &mut self.model.requests[number];
        for row in &mut request.rows {
            row.k = lot - rng.between(-1, 4);
            if self.model.promised.get(&row.k) == Some(&true) {
                request.closed.push(row.id);
            }
        }
        self.send(world, number)
    }

    fn send(&mut self, world: &World, number: usize) -> (Ask, Asked) {
        let request = &self.model.requests[number];
        let producer = request.producer.map(|(id, sequence)| Producer {
            id: id.to_string(),
            sequence,
            each_row: false,
        });
        let asked = world.ask_rows(request.stream, &request.text(), request.ack, producer);
        (Ask::Rows(number), asked)
    }

    fn change_table(&mut self, world: &World) -> (Ask, Asked) {
        let known: Vec<i64> =
            self.model.tables.first().map_or(vec![], |table| table.keys().copied().collect());
        let c = self.rng.between(0, 5);
        if known.is_empty() || self.rng.one_in(2) {
            self.next_id += 1;
            let id = self.next_id;
            let text = format!("INSERT INTO users VALUES ({id}, {c})");
            return (Ask::Insert(id, c), world.ask_sql(text));
        }
        let id = self.rng.pick(&known);
        if self.rng.one_in(2) {
            let text = format!("UPDATE users SET c = {c} WHERE id = {id}");
            return (Ask::Update(id, c), world.ask_sql(text));
        }
        (Ask::Delete(id), world.ask_sql(format!("DELETE FROM users WHERE id = {id}")))
    }

    fn administer(&mut self, world: &World) -> (Ask, Asked) {
        let name = self.rng.pick(&["d0", "d1"]);
        // Those that read what goes when nobody needs it are neither made anew nor paused.
        let fixed = loop {
            let name = self.rng.pick(&self.queries).name;
            if name != TRIMMED && name != BRIMMING {
                break name;
            }
        };
        match self.rng.index(10) {
            8 => (Ask::Other, world.ask_sql(format!("PAUSE {}", self.rng.pick(&SINK_NAMES)))),
            9 => (Ask::Other, world.ask_sql(format!("RESUME {}", self.rng.pick(&SINK_NAMES)))),
            0..=2 => {
                let number = self.rng.index(CHANGING.len());
                let sql = CHANGING[number].sql;
                let text = format!("CREATE OR REPLACE CONTINUOUS QUERY {name} AS {sql}");
                (Ask::Replace(name, number), world.ask_sql(text))
            }
            3 => {
                let text = format!("DROP CONTINUOUS QUERY IF EXISTS {name}");
                (Ask::Drop(name), world.ask_sql(text))
            }
            4 => (Ask::Pause(fixed), world.ask_sql(format!("PAUSE {fixed}"))),
            5 => (Ask::Resume(fixed), world.ask_sql(format!("RESUME {fixed}"))),
            6 => {
                let text = format!("REBUILD CONTINUOUS QUERY {fixed}");
                (Ask::Other, world.ask_sql(text))
            }
            _ => (Ask::Other, world.ask_sql("FLUSH".into())),
        }
    }

    /// A subscriber looks at what is new.
    fn observe(&mut self, world: &World) {
        let name = self.rng.pick(&self.queries).name;
        let seen = self.model.seen.entry(name.to_string()).or_default();
        // Of a query that has failed there is nothing to see.
        if let Ok(new) = world.follow(name, seen.next) {
            assert!(new.gaps.is_empty() || name == FORGETFUL, "{name}: {:?}", new.gaps);
            seen.go_on(new);
        }
    }
}
