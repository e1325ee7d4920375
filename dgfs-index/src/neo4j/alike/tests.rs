//! The rule against its definition: any history leaves the edges that there are to be.

use std::collections::{BTreeMap, BTreeSet};

use super::{ALIKE_MAX, Alike, Circle, Edge, Fault, Settlement, beginning, edge, sort, worth};

/// Contents with how much each two are alike.
struct World {
    contents: BTreeSet<String>,
    seed: u64,
}

fn mixed(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn hash(number: u64) -> String {
    format!("{:016x}{number:048x}", mixed(number + 1))
}

impl World {
    fn permille(&self, one: &str, other: &str) -> u16 {
        let sum = mixed(beginning(one).wrapping_add(beginning(other)) ^ self.seed);
        // Few levels, so that many are equally alike; a fifth are not alike at all.
        (sum % 5 * 200) as u16
    }

    fn of(&self, content: &str) -> Vec<Alike> {
        let others = self.contents.iter().filter(|other| *other != content);
        let alike = others.map(|other| Alike {
            other: other.clone(),
            source: "text".to_owned(),
            permille: self.permille(content, other),
        });
        let mut alike: Vec<Alike> = alike.filter(|one| one.permille > 0).collect();
        sort(content, &mut alike);
        alike
    }

    /// The edges that there are to be, by the definition: the closest pairs first.
    fn wanted(&self) -> BTreeSet<Edge> {
        let mut pairs = Vec::new();
        for one in &self.contents {
            for other in self.contents.range(one.clone()..).skip(1) {
                let permille = self.permille(one, other);
                if permille > 0 {
                    pairs.push((worth(one, other, permille), edge(one, other, "text", permille)));
                }
            }
        }
        pairs.sort_by(|one, other| other.cmp(one));
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        let mut edges = BTreeSet::new();
        for (_, edge) in pairs {
            let full = |content: &String| count.get(content).copied().unwrap_or(0) >= ALIKE_MAX;
            if !full(&edge.less) && !full(&edge.greater) {
                *count.entry(edge.less.clone()).or_default() += 1;
                *count.entry(edge.greater.clone()).or_default() += 1;
                edges.insert(edge);
            }
        }
        edges
    }
}

/// A graph that is settled page by page, as Neo4j is.
#[derive(Default)]
struct Graph {
    edges: BTreeSet<Edge>,
    due: BTreeSet<String>,
}

impl Graph {
    fn circle(&self, world: &World) -> Circle {
        let mut edges: BTreeMap<&String, Vec<Alike>> =
            world.contents.iter().map(|content| (content, Vec::new())).collect();
        for Edge { less, greater, source, permille } in &self.edges {
            for (one, other) in [(less, greater), (greater, less)] {
                let (other, source, permille) = (other.clone(), source.clone(), *permille);
                edges.entry(one).or_default().push(Alike { other, source, permille });
            }
        }
        let mut circle = Circle::default();
        edges.iter().for_each(|(content, edges)| circle.add(content, edges));
        edges.keys().filter(|content| !world.contents.contains(**content)).for_each(|gone| circle.forget(gone));
        circle
    }

    /// Returns how many pages it took.
    fn settle(&mut self, world: &World, page: usize) -> usize {
        let mut pages = 0;
        while !self.due.is_empty() {
            pages += 1;
            let now: Vec<String> = self.due.iter().take(page).cloned().collect();
            let mut circle = self.circle(world);
            for content in &now {
                self.due.remove(content);
                circle.settle(content, &world.of(content));
            }
            let Settlement { dropped, made, due } = circle.finish();
            self.edges.retain(|edge| !dropped.contains(edge));
            self.edges.extend(made);
            self.due.extend(due);
            assert!(pages < 100_000, "it does not end");
        }
        pages
    }
}

#[test]
fn whatever_comes_and_goes_in_whatever_order_the_same_edges_are_left() {
    for seed in 0..3 {
        let mut world = World { contents: BTreeSet::new(), seed };
        let mut graph = Graph::default();
        for step in 0..40_u64 {
            let chance = mixed(seed << 32 | step);
            for new in 0..chance % 6 {
                let content = hash(step * 8 + new);
                world.contents.insert(content.clone());
                graph.due.insert(content);
            }
            if chance >> 8 & 1 == 1 {
                let at = (chance >> 16) as usize % world.contents.len().max(1);
                if let Some(content) = world.contents.iter().nth(at).cloned() {
                    world.contents.remove(&content);
                    graph.due.insert(content);
                }
            }
            graph.settle(&world, 1 + (chance >> 40) as usize % 7);
            assert_eq!(graph.edges, world.wanted(), "seed {seed}, step {step}");
            let circle = graph.circle(&world);
            for content in world.contents.iter().filter(|_| step % 8 == 7) {
                assert_eq!(circle.faults(content, &world.of(content), 50), BTreeSet::new());
            }
        }
        assert!(world.contents.len() > 2 * ALIKE_MAX, "{} contents are no crowd", world.contents.len());
    }
}

#[test]
fn an_edge_taken_out_made_up_or_of_another_strength_is_a_fault() {
    let world = World { contents: (0..60).map(hash).collect(), seed: 3 };
    let mut graph = Graph { due: world.contents.clone(), ..Graph::default() };
    graph.settle(&world, 10);
    let faults = |graph: &Graph| -> BTreeSet<Fault> {
        let circle = graph.circle(&world);
        world.contents.iter().flat_map(|content| circle.faults(content, &world.of(content), 50)).collect()
    };
    assert_eq!(faults(&graph), BTreeSet::new());
    let taken = graph.edges.iter().nth(7).cloned().unwrap();
    graph.edges.remove(&taken);
    let found = faults(&graph);
    assert!(found.contains(&Fault::Missing(taken.clone())), "{found:?}");
    // Its ends have room now, for lesser ones, too; nobody else is concerned.
    let ends = [&taken.less, &taken.greater];
    let concerns = |fault: &Fault| match fault {
        Fault::Missing(edge) => ends.contains(&&edge.less) || ends.contains(&&edge.greater),
        Fault::Untrue(_) | Fault::Crowded(..) => false,
    };
    assert!(found.iter().all(concerns), "{found:?}");
    let other = Edge { permille: taken.permille - 1, ..taken };
    graph.edges.insert(other.clone());
    assert!(faults(&graph).contains(&Fault::Untrue(other)));
}

#[test]
fn no_content_has_more_edges_than_it_may_and_none_stands_alone_in_a_crowd() {
    // All are equally alike, as copies of a form are.
    let world = World { contents: (0..90).map(hash).collect(), seed: 0 };
    let same = |content: &str| -> Vec<Alike> {
        let others = world.contents.iter().filter(|other| *other != content);
        let alike = others.map(|other| Alike { other: other.clone(), source: "text".to_owned(), permille: 900 });
        let mut alike: Vec<Alike> = alike.collect();
        sort(content, &mut alike);
        alike
    };
    let mut circle = Circle::default();
    world.contents.iter().for_each(|content| circle.add(content, &[]));
    let mut due = world.contents.clone();
    for _ in 0..10_000 {
        let Some(content) = due.pop_first() else { break };
        circle.settle(&content, &same(&content));
        due.append(&mut circle.due);
    }
    assert!(due.is_empty());
    let degrees: Vec<usize> = world.contents.iter().map(|content| circle.list(content, "text").len()).collect();
    assert!(degrees.iter().all(|degree| (1..=ALIKE_MAX).contains(degree)), "{degrees:?}");
}
