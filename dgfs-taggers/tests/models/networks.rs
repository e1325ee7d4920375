//! The networks that tests register: each is small, and some are hostile.
//!
//! Never trained: their weights are chosen so that what they say is known.

use crate::onnx::{Graph, Message, Of, floats, int, ints, node, subgraph, value, whole};

/// Side of the pictures that classifiers take.
pub(crate) const SIDE: i64 = 8;

fn picture() -> Message {
    value("x", Of::Float, &[1, 3, SIDE, SIDE])
}

/// Scores of "red" and of "blue": ten times the mean of that colour.
fn colour_nodes() -> (Vec<Message>, Vec<Message>) {
    let nodes = vec![
        node("GlobalAveragePool", &["x"], "mean", vec![]),
        node("Flatten", &["mean"], "flat", vec![]),
        node("Gemm", &["flat", "w", "b"], "colours", vec![]),
    ];
    let weights = vec![floats("w", &[3, 2], &[10.0, 0.0, 0.0, 0.0, 0.0, 10.0]), floats("b", &[2], &[0.0, 0.0])];
    (nodes, weights)
}

/// Tells red from blue.
pub(crate) fn colours() -> Vec<u8> {
    let (nodes, constants) = colour_nodes();
    let outputs = vec![value("colours", Of::Float, &[1, 2])];
    Graph { nodes, constants, inputs: vec![picture()], outputs }.file(&[])
}

/// The brightest number of the picture times `factor`, and one more, as a whole number.
fn count_nodes(factor: f32) -> (Vec<Message>, Vec<Message>) {
    let nodes = vec![
        node("ReduceMax", &["x"], "most", vec![ints("axes", &[0, 1, 2, 3]), int("keepdims", 0)]),
        node("Mul", &["most", "factor"], "times", vec![]),
        node("Add", &["times", "least"], "more", vec![]),
        node("Cast", &["more"], "count", vec![int("to", 7)]),
    ];
    (nodes, vec![floats("factor", &[], &[factor]), floats("least", &[], &[1.0])])
}

/// Tells red from blue, and takes gigabytes for a picture that is not black.
pub(crate) fn greedy() -> Vec<u8> {
    let (mut nodes, mut constants) = colour_nodes();
    let (counting, factor) = count_nodes(1e9);
    nodes.extend(counting);
    constants.extend(factor);
    constants.push(whole("one", &[1], &[1]));
    nodes.push(node("Reshape", &["count", "one"], "shape", vec![]));
    nodes.push(node("ConstantOfShape", &["shape"], "large", vec![]));
    nodes.push(node("ReduceSum", &["large"], "sum", vec![int("keepdims", 0)]));
    nodes.push(node("Add", &["colours", "sum"], "y", vec![]));
    let outputs = vec![value("y", Of::Float, &[1, 2])];
    Graph { nodes, constants, inputs: vec![picture()], outputs }.file(&[])
}

/// Takes gigabytes for any picture.
pub(crate) fn always_greedy() -> Vec<u8> {
    let (mut nodes, mut constants) = colour_nodes();
    constants.push(whole("shape", &[2], &[50_000, 50_000]));
    nodes.push(node("ConstantOfShape", &["shape"], "large", vec![]));
    nodes.push(node("ReduceSum", &["large"], "sum", vec![int("keepdims", 0)]));
    nodes.push(node("Add", &["colours", "sum"], "y", vec![]));
    let outputs = vec![value("y", Of::Float, &[1, 2])];
    Graph { nodes, constants, inputs: vec![picture()], outputs }.file(&[])
}

/// Tells red from blue, and multiplies matrices for days for a picture that is not black.
pub(crate) fn slow() -> Vec<u8> {
    const LEN: i64 = 256;
    let (mut nodes, mut constants) = colour_nodes();
    let (counting, factor) = count_nodes(1e9);
    nodes.extend(counting);
    constants.extend(factor);
    let square = vec![0.0; (LEN * LEN) as usize];
    constants.push(floats("start", &[LEN, LEN], &square));
    let body = Graph {
        nodes: vec![
            node("Identity", &["go"], "on", vec![]),
            node("MatMul", &["state", "factor-matrix"], "next", vec![]),
        ],
        constants: vec![floats("factor-matrix", &[LEN, LEN], &square)],
        inputs: vec![value("at", Of::Int64, &[]), value("go", Of::Bool, &[]), value("state", Of::Float, &[LEN, LEN])],
        outputs: vec![value("on", Of::Bool, &[]), value("next", Of::Float, &[LEN, LEN])],
    };
    nodes.push(node("Loop", &["count", "", "start"], "end", vec![subgraph("body", body.message())]));
    nodes.push(node("ReduceSum", &["end"], "sum", vec![int("keepdims", 0)]));
    nodes.push(node("Add", &["colours", "sum"], "y", vec![]));
    let outputs = vec![value("y", Of::Float, &[1, 2])];
    Graph { nodes, constants, inputs: vec![picture()], outputs }.file(&[])
}

/// The pieces of the vocabulary that [`meanings`] knows, one a line.
pub(crate) const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\ncat\nkitten\nengine\nmotor\n";

/// What each piece means: little for the framing ones, animals and machines.
const TABLE: [f32; 24] = [
    0.0, 0.0, 0.1, 0.0, 0.0, 0.1, 0.0, 0.0, 0.1, 0.0, 0.0, 0.1, //
    1.0, 0.0, 0.0, 0.9, 0.1, 0.0, 0.0, 1.0, 0.0, 0.1, 0.9, 0.0,
];

/// Gives a vector for each token, or their mean.
pub(crate) fn meanings(is_pooled: bool) -> Vec<u8> {
    let mut nodes = vec![node("Gather", &["table", "input_ids"], "tokens", vec![])];
    let mut output = value("tokens", Of::Float, &[1, -1, 3]);
    if is_pooled {
        nodes.push(node("ReduceMean", &["tokens"], "text", vec![ints("axes", &[1]), int("keepdims", 0)]));
        output = value("text", Of::Float, &[1, 3]);
    }
    let inputs = vec![value("input_ids", Of::Int64, &[1, -1])];
    Graph { nodes, constants: vec![floats("table", &[8, 3], &TABLE)], inputs, outputs: vec![output] }.file(&[])
}

/// Finds lines where a picture is dark: the mean of the colours, turned round.
pub(crate) fn finder() -> Vec<u8> {
    let nodes = vec![
        node("ReduceMean", &["x"], "gray", vec![ints("axes", &[1])]),
        node("Mul", &["gray", "turn"], "dark", vec![]),
    ];
    let inputs = vec![value("x", Of::Float, &[1, 3, -1, -1])];
    let outputs = vec![value("dark", Of::Float, &[1, 1, -1, -1])];
    Graph { nodes, constants: vec![floats("turn", &[], &[-1.0])], inputs, outputs }.file(&[])
}

/// Reads each column of the middle row as a letter by its strongest colour: blue "b", green "g", red "r"; white, gray and
/// black are none. The letters are carried by the model.
pub(crate) fn reader() -> Vec<u8> {
    let nodes = vec![
        node("ReduceMean", &["x"], "colours", vec![ints("axes", &[2]), int("keepdims", 0)]),
        node("Transpose", &["colours"], "steps", vec![ints("perm", &[0, 2, 1])]),
        node("MatMul", &["steps", "w"], "scores", vec![]),
        node("Add", &["scores", "b"], "classes", vec![]),
    ];
    // A colour's own channel less the others; the blank wins where none stands out.
    let weights = [
        [0.0, 0.5, -0.25, -0.25, -1.0], // blue
        [0.0, -0.25, 0.5, -0.25, -1.0], // green
        [0.0, -0.25, -0.25, 0.5, -1.0], // red
    ];
    let constants = vec![floats("w", &[3, 5], &weights.concat()), floats("b", &[5], &[0.25, 0.0, 0.0, 0.0, -9.0])];
    let inputs = vec![value("x", Of::Float, &[1, 3, 48, -1])];
    let outputs = vec![value("classes", Of::Float, &[1, -1, 5])];
    Graph { nodes, constants, inputs, outputs }.file(&[("character", "b\ng\nr")])
}
