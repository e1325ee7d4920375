//! Runs networks in the ONNX format: all that this crate knows of the library that does it.
//!
//! Never opens a file (weights beside the model's file are refused), and never starts a thread after [`Threads::start`],
//! which a sealed process could not. Always: one thread computes, since a worker is one of several.

use std::sync::Arc;

use rten::{Dimension, Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::{Layout as _, Tensor};

/// Numbers of an output at most: a probability map of 16 megapixels, or a long text's vectors.
const OUTPUT_LEN_MAX: usize = 64 << 20;

/// Dimensions that an output may have.
const RANKS: std::ops::RangeInclusive<usize> = 1..=4;

/// The thread that networks run on.
pub(crate) struct Threads(Arc<ThreadPool>);

impl Threads {
    /// Starts it, and runs `first` on it: fences of a process that hold for a thread are set there.
    pub(crate) fn start(first: impl FnOnce() + Send) -> Self {
        let pool = ThreadPool::with_num_threads(1);
        pool.run(first);
        Self(Arc::new(pool))
    }
}

/// Numbers in a shape, the last dimension being the closest together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Floats {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// An input.
#[derive(Debug, Clone)]
pub(super) enum Given {
    Floats(Floats),
    /// Whole numbers, in a row of one.
    Row(Vec<i32>),
}

/// A network that is loaded.
pub(super) struct Network {
    model: Model,
    output: NodeId,
    threads: Arc<ThreadPool>,
}

impl Network {
    /// # Errors
    ///
    /// A sentence that begins with `key`: not ONNX, damaged, an operator that is not known, no output.
    pub(super) fn load(key: &str, bytes: Vec<u8>, threads: &Threads) -> Result<Self, String> {
        let len = bytes.len();
        let load = move || ModelOptions::with_all_ops().load(bytes).map_err(|error| error.to_string());
        let loaded = threads.0.run(load);
        let model = loaded.map_err(|error| format!("{key}: {len} bytes that are no usable ONNX model: {error}"))?;
        let output = *model.output_ids().first().ok_or_else(|| format!("{key}: a network without an output"))?;
        Ok(Self { model, output, threads: Arc::clone(&threads.0) })
    }

    /// Names of the inputs, in their order.
    pub(super) fn inputs(&self) -> Vec<String> {
        let name = |id: &NodeId| self.model.node_info(*id).and_then(|info| info.name()).unwrap_or_default().to_owned();
        self.model.input_ids().iter().map(name).collect()
    }

    /// What the model says of itself under `key`.
    pub(super) fn property(&self, key: &str) -> Option<&str> {
        self.model.metadata().get(key)
    }

    /// Runs it; `inputs` in the order of [`Self::inputs`]. Answers the first output.
    ///
    /// # Errors
    ///
    /// A sentence: the network cannot take these shapes or types, or its output is no numbers of 1 to 4 dimensions.
    pub(super) fn run(&self, inputs: Vec<Given>) -> Result<Floats, String> {
        let ids = self.model.input_ids();
        if ids.len() != inputs.len() {
            return Err(format!("the network has {} inputs, expected {}", ids.len(), inputs.len()));
        }
        let mut given: Vec<(NodeId, ValueOrView<'_>)> = Vec::with_capacity(inputs.len());
        for (id, input) in ids.iter().zip(inputs) {
            self.check_shape(*id, &input)?;
            given.push((*id, value(input)?.into()));
        }
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let outputs = self.model.run(given, &[self.output], Some(options)).map_err(|error| error.to_string())?;
        let output = outputs.into_iter().next().ok_or("the network gave nothing")?;
        floats(output)
    }

    /// The library takes any shape, and some of its operators panic on the wrong one.
    fn check_shape(&self, id: NodeId, input: &Given) -> Result<(), String> {
        let Some(known) = self.model.node_info(id).and_then(|info| info.shape()) else { return Ok(()) };
        let given = match input {
            Given::Floats(floats) => floats.shape.clone(),
            Given::Row(values) => vec![1, values.len()],
        };
        let fits = |(known, given): (&Dimension, &usize)| match known {
            Dimension::Fixed(len) => len == given,
            Dimension::Symbolic(_) => true,
        };
        if known.len() == given.len() && known.iter().zip(&given).all(fits) {
            return Ok(());
        }
        let spelt = known.iter().map(|dimension| match dimension {
            Dimension::Fixed(len) => len.to_string(),
            Dimension::Symbolic(name) => name.clone(),
        });
        let spelt: Vec<String> = spelt.collect();
        Err(format!("its input has the shape [{}], given is {given:?}", spelt.join(", ")))
    }
}

fn value(input: Given) -> Result<Value, String> {
    match input {
        Given::Floats(Floats { shape, values }) => Value::from_shape(shape, values).map_err(|error| error.to_string()),
        Given::Row(values) => Value::from_shape([1, values.len()], values).map_err(|error| error.to_string()),
    }
}

fn floats(output: Value) -> Result<Floats, String> {
    let tensor: Tensor<f32> = output.into_tensor().ok_or("the output is not of floating point numbers")?;
    let shape = tensor.shape().to_vec();
    if !RANKS.contains(&shape.len()) {
        return Err(format!("an output of {} dimensions, expected 1 to 4", shape.len()));
    }
    let len = shape.iter().try_fold(1_usize, |len, side| len.checked_mul(*side)).unwrap_or(usize::MAX);
    if len > OUTPUT_LEN_MAX {
        return Err(format!("an output of {len} numbers, of at most {OUTPUT_LEN_MAX}"));
    }
    Ok(Floats { shape, values: tensor.into_data() })
}
