//! Writes small networks in the ONNX format, field by field.
//!
//! Never uses what reads them. The numbers of fields are those of `onnx.proto` (ONNX IR version 8, operators of version 13).

/// A protobuf message.
#[derive(Default, Clone)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    pub(crate) fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(crate) fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn all(self, field: u64, messages: impl IntoIterator<Item = Self>) -> Self {
        messages.into_iter().fold(self, |outer, inner| outer.message(field, inner))
    }
}

/// Types of numbers.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    Float = 1,
    Int64 = 7,
    Bool = 9,
}

pub(crate) fn node(operator: &str, inputs: &[&str], output: &str, attributes: Vec<Message>) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input.as_bytes()));
    node.bytes(2, output.as_bytes()).bytes(4, operator.as_bytes()).all(5, attributes)
}

pub(crate) fn int(name: &str, value: i64) -> Message {
    Message::default().bytes(1, name.as_bytes()).int(3, value).int(20, 2)
}

pub(crate) fn ints(name: &str, values: &[i64]) -> Message {
    let attribute = Message::default().bytes(1, name.as_bytes());
    values.iter().fold(attribute, |attribute, value| attribute.int(8, *value)).int(20, 7)
}

pub(crate) fn subgraph(name: &str, graph: Message) -> Message {
    Message::default().bytes(1, name.as_bytes()).message(6, graph).int(20, 5)
}

fn tensor(name: &str, of: Of, dims: &[i64], raw: &[u8]) -> Message {
    let tensor = dims.iter().fold(Message::default(), |tensor, len| tensor.int(1, *len));
    tensor.int(2, of as i64).bytes(8, name.as_bytes()).bytes(9, raw)
}

pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    tensor(name, Of::Float, dims, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

pub(crate) fn whole(name: &str, dims: &[i64], values: &[i64]) -> Message {
    tensor(name, Of::Int64, dims, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// An input or output; a length below 0 is left open.
pub(crate) fn value(name: &str, of: Of, dims: &[i64]) -> Message {
    let open = |len: &i64| match len {
        ..0 => Message::default().bytes(2, b"n"),
        _ => Message::default().int(1, *len),
    };
    let shape = Message::default().all(1, dims.iter().map(open));
    let of = Message::default().int(1, of as i64).message(2, shape);
    Message::default().bytes(1, name.as_bytes()).message(2, Message::default().message(1, of))
}

/// What a network is made of.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Message>,
    pub(crate) constants: Vec<Message>,
    pub(crate) inputs: Vec<Message>,
    pub(crate) outputs: Vec<Message>,
}

impl Graph {
    pub(crate) fn message(self) -> Message {
        let Self { nodes, constants, inputs, outputs } = self;
        Message::default().all(1, nodes).bytes(2, b"g").all(5, constants).all(11, inputs).all(12, outputs)
    }

    /// The file, with properties that it carries.
    pub(crate) fn file(self, properties: &[(&str, &str)]) -> Vec<u8> {
        let property =
            |(key, value): &(&str, &str)| Message::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
        let model = Message::default().int(1, 8).message(7, self.message()).message(8, Message::default().int(2, 13));
        model.all(14, properties.iter().map(property)).0
    }
}
