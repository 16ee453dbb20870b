//! As much of an assembler for BPF as a short program needs: instructions by name, jumps to labels.
//!
//! An instruction is eight bytes (RFC 9669 §3.1): opcode, two registers, an offset, a number. What is here
//! is opcodes put together from their parts, and offsets of jumps filled in once labels are placed.

use std::collections::HashMap;

/// One instruction as the kernel takes it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub opcode: u8,
    /// Destination register in the low half, source register in the high half, where bytes are in little
    /// endian; the other way round where they are not.
    registers: u8,
    /// Of a memory access in bytes; of a jump in instructions after this one.
    pub offset: i16,
    /// A number.
    pub immediate: i32,
}

impl Instruction {
    const fn new(opcode: u8, to: Register, from: u8, offset: i16, immediate: i32) -> Instruction {
        let to = to as u8;
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        Instruction { opcode, registers, offset, immediate }
    }

    /// Destination and source register.
    pub fn registers(self) -> (u8, u8) {
        let (low, high) = (self.registers & 0xf, self.registers >> 4);
        if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
    }
}

/// Registers (RFC 9669 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Results of calls, and of the program.
    R0,
    /// First argument of a call, lost by it; at the start, the context.
    R1,
    /// Second argument of a call, lost by it.
    R2,
    /// Third.
    R3,
    /// Fourth.
    R4,
    /// Fifth.
    R5,
    /// Kept over calls.
    R6,
    /// Kept over calls.
    R7,
    /// Kept over calls.
    R8,
    /// Kept over calls.
    R9,
    /// End of the stack, which grows downward; only read.
    R10,
}

/// Width of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
}

impl Width {
    const fn bits(self) -> u8 {
        match self {
            Width::Word => 0x00,
            Width::Half => 0x08,
            Width::Byte => 0x10,
        }
    }
}

/// When to jump: the register against a number or another register, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Greater.
    Greater,
    /// Less.
    Less,
}

impl When {
    const fn bits(self) -> u8 {
        match self {
            When::Equal => 0x10,
            When::Greater => 0x20,
            When::NotEqual => 0x50,
            When::Less => 0xa0,
        }
    }
}

// Classes, sources and modes (RFC 9669 §3, §4, §5).
const LOAD_CONSTANT: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE: u8 = 0x62;
const STORE_REGISTER: u8 = 0x63;
const JUMP: u8 = 0x05;
const JUMP_ALWAYS: u8 = JUMP;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const MOVE: u8 = 0xb7;
const BY_REGISTER: u8 = 0x08;
/// The source of a constant that is a map's file descriptor.
const MAP: u8 = 1;

/// A program under construction.
#[derive(Debug, Default)]
pub struct Assembler {
    done: Vec<Instruction>,
    labels: HashMap<&'static str, usize>,
    /// Jumps, and where they are to lead.
    jumps: Vec<(usize, &'static str)>,
}

impl Assembler {
    fn push(&mut self, opcode: u8, to: Register, from: u8, offset: i16, immediate: i32) -> &mut Assembler {
        self.done.push(Instruction::new(opcode, to, from, offset, immediate));
        self
    }

    /// Names the place of the next instruction.
    pub fn label(&mut self, name: &'static str) -> &mut Assembler {
        self.labels.insert(name, self.done.len());
        self
    }

    /// `to = from`
    pub fn copy(&mut self, to: Register, from: Register) -> &mut Assembler {
        self.push(MOVE | BY_REGISTER, to, from as u8, 0, 0)
    }

    /// `to = number`
    pub fn set(&mut self, to: Register, number: i32) -> &mut Assembler {
        self.push(MOVE, to, 0, 0, number)
    }

    /// `to += number`
    pub fn add(&mut self, to: Register, number: i32) -> &mut Assembler {
        self.push(ADD, to, 0, 0, number)
    }

    /// `to &= number`
    pub fn and(&mut self, to: Register, number: i32) -> &mut Assembler {
        self.push(AND, to, 0, 0, number)
    }

    /// `to =` the map of this file descriptor; takes the room of two instructions.
    pub fn map(&mut self, to: Register, map: i32) -> &mut Assembler {
        self.push(LOAD_CONSTANT, to, MAP, 0, map).push(0, Register::R0, 0, 0, 0)
    }

    /// `to = memory[from + offset]`, in the machine's byte order.
    pub fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) -> &mut Assembler {
        self.push(LOAD | width.bits(), to, from as u8, offset, 0)
    }

    /// `memory[to + offset] = from`
    pub fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) -> &mut Assembler {
        self.push(STORE_REGISTER | width.bits(), to, from as u8, offset, 0)
    }

    /// `memory[to + offset] = number`
    pub fn store_number(&mut self, width: Width, to: Register, offset: i16, number: i32) -> &mut Assembler {
        self.push(STORE | width.bits(), to, 0, offset, number)
    }

    /// Jumps to a label when `register` is so compared with a number.
    pub fn jump(&mut self, when: When, register: Register, number: i32, to: &'static str) -> &mut Assembler {
        self.jumps.push((self.done.len(), to));
        self.push(JUMP | when.bits(), register, 0, 0, number)
    }

    /// Jumps to a label when `register` is so compared with another.
    pub fn jump_by(
        &mut self,
        when: When,
        register: Register,
        other: Register,
        to: &'static str,
    ) -> &mut Assembler {
        self.jumps.push((self.done.len(), to));
        self.push(JUMP | when.bits() | BY_REGISTER, register, other as u8, 0, 0)
    }

    /// Jumps to a label.
    pub fn go(&mut self, to: &'static str) -> &mut Assembler {
        self.jumps.push((self.done.len(), to));
        self.push(JUMP_ALWAYS, Register::R0, 0, 0, 0)
    }

    /// Calls a function of the kernel by its number.
    pub fn call(&mut self, function: i32) -> &mut Assembler {
        self.push(CALL, Register::R0, 0, 0, function)
    }

    /// Ends with what is in R0.
    pub fn exit(&mut self) -> &mut Assembler {
        self.push(EXIT, Register::R0, 0, 0, 0)
    }

    /// The program; `None` when a label is missing or too far away.
    pub fn finish(&self) -> Option<Vec<Instruction>> {
        let mut program = self.done.clone();
        for (at, to) in &self.jumps {
            let target = i64::try_from(*self.labels.get(to)?).ok()?;
            program.get_mut(*at)?.offset = i16::try_from(target - i64::try_from(*at).ok()? - 1).ok()?;
        }
        Some(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As llvm-objdump shows them.
    #[test]
    fn instructions_have_the_bytes_of_the_standard() {
        let mut a = Assembler::default();
        a.copy(Register::R6, Register::R1)
            .load(Width::Half, Register::R0, Register::R2, 12)
            .jump(When::NotEqual, Register::R0, 8, "end")
            .store_number(Width::Word, Register::R10, -24, -1)
            .map(Register::R1, 7)
            .call(1)
            .label("end")
            .exit();
        let bytes: Vec<_> = a.finish().unwrap().iter().map(|i| (i.opcode, i.offset, i.immediate)).collect();
        let wanted = [
            (0xbf, 0, 0),
            (0x69, 12, 0),
            (0x55, 4, 8),
            (0x62, -24, -1),
            (0x18, 0, 7),
            (0x00, 0, 0),
            (0x85, 0, 1),
            (0x95, 0, 0),
        ];
        assert_eq!(bytes, wanted);
        assert_eq!(a.finish().unwrap()[0].registers(), (6, 1));
        assert_eq!(a.finish().unwrap()[4].registers(), (1, 1));
        assert_eq!(size_of::<Instruction>(), 8);
    }

    #[test]
    fn a_label_that_is_missing_is_no_program() {
        assert_eq!(Assembler::default().go("nowhere").finish(), None);
    }
}
