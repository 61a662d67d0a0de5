// What the MMIO decoder knows about each opcode: one row an instruction.
//
// Source: Intel SDM volume 2, appendix "Opcode Map". A new instruction is a row here and, if it does
// something new, an Operation in mmio.ts.

/** What an instruction does with its memory operand. 0: not known. */
export const enum Operation {
  UNKNOWN = 0,
  LOAD = 1, // register = memory, zero-extended
  LOAD_SIGNED = 2, // register = memory, sign-extended
  STORE = 3, // memory = register
  STORE_IMMEDIATE = 4, // memory = immediate
  ALU_MEMORY = 5, // memory = memory op register; op: bits 3..5 of the opcode
  ALU_REGISTER = 6, // register = register op memory; op: bits 3..5 of the opcode
  ALU_IMMEDIATE = 7, // memory = memory op immediate; op: the reg field of ModRM
  TEST_REGISTER = 8, // flags of memory AND register
  TEST_IMMEDIATE = 9, // flags of memory AND immediate
  EXCHANGE = 10, // memory and register change places
}

/** The row of an opcode: an Operation, and these bits. */
export const OPERATION_MASK: u32 = 0x0f;
export const MODRM: u32 = 0x10; // has a ModRM byte
export const BYTE: u32 = 0x20; // the operand is a byte
export const MEMORY_8: u32 = 0x40; // the memory operand is a byte, the register has the operand size
export const MEMORY_16: u32 = 0x80;
export const MEMORY_32: u32 = 0x100;
export const IMMEDIATE: u32 = 0x200; // an immediate of the operand size, at most 4 bytes
export const OFFSET: u32 = 0x400; // the address is in the instruction, the register is the accumulator
export const REG_IS_ZERO: u32 = 0x800; // the reg field of ModRM extends the opcode and must be 0
export const ONLY_64: u32 = 0x1000; // in 64-bit code only

export const IMMEDIATE_8: u32 = 0x2000; // an immediate byte, sign-extended

const oneByte = new StaticArray<u16>(256);
const twoByte = new StaticArray<u16>(256);

function row(table: StaticArray<u16>, opcode: i32, operation: Operation, bits: u32): void {
  table[opcode] = <u16>((<u32>operation) | bits);
}

// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP: four forms each
for (let op = 0; op < 8; op++) {
  row(oneByte, op * 8, Operation.ALU_MEMORY, MODRM | BYTE);
  row(oneByte, op * 8 + 1, Operation.ALU_MEMORY, MODRM);
  row(oneByte, op * 8 + 2, Operation.ALU_REGISTER, MODRM | BYTE);
  row(oneByte, op * 8 + 3, Operation.ALU_REGISTER, MODRM);
}
row(oneByte, 0x80, Operation.ALU_IMMEDIATE, MODRM | BYTE | IMMEDIATE); // op r/m8, imm8
row(oneByte, 0x81, Operation.ALU_IMMEDIATE, MODRM | IMMEDIATE); // op r/m, imm
row(oneByte, 0x83, Operation.ALU_IMMEDIATE, MODRM | IMMEDIATE_8); // op r/m, imm8
row(oneByte, 0x84, Operation.TEST_REGISTER, MODRM | BYTE); // TEST r/m8, r8
row(oneByte, 0x85, Operation.TEST_REGISTER, MODRM); // TEST r/m, r
row(oneByte, 0x86, Operation.EXCHANGE, MODRM | BYTE); // XCHG r/m8, r8
row(oneByte, 0x87, Operation.EXCHANGE, MODRM); // XCHG r/m, r
row(oneByte, 0xf6, Operation.TEST_IMMEDIATE, MODRM | REG_IS_ZERO | BYTE | IMMEDIATE); // TEST r/m8, imm8
row(oneByte, 0xf7, Operation.TEST_IMMEDIATE, MODRM | REG_IS_ZERO | IMMEDIATE); // TEST r/m, imm
row(oneByte, 0x63, Operation.LOAD_SIGNED, MODRM | MEMORY_32 | ONLY_64); // MOVSXD
row(oneByte, 0x88, Operation.STORE, MODRM | BYTE); // MOV r/m8, r8
row(oneByte, 0x89, Operation.STORE, MODRM); // MOV r/m, r
row(oneByte, 0x8a, Operation.LOAD, MODRM | BYTE); // MOV r8, r/m8
row(oneByte, 0x8b, Operation.LOAD, MODRM); // MOV r, r/m
row(oneByte, 0xa0, Operation.LOAD, OFFSET | BYTE); // MOV AL, moffs8
row(oneByte, 0xa1, Operation.LOAD, OFFSET); // MOV rAX, moffs
row(oneByte, 0xa2, Operation.STORE, OFFSET | BYTE); // MOV moffs8, AL
row(oneByte, 0xa3, Operation.STORE, OFFSET); // MOV moffs, rAX
row(oneByte, 0xc6, Operation.STORE_IMMEDIATE, MODRM | REG_IS_ZERO | BYTE | IMMEDIATE); // MOV r/m8, imm8
row(oneByte, 0xc7, Operation.STORE_IMMEDIATE, MODRM | REG_IS_ZERO | IMMEDIATE); // MOV r/m, imm
row(twoByte, 0xb6, Operation.LOAD, MODRM | MEMORY_8); // MOVZX r, r/m8
row(twoByte, 0xb7, Operation.LOAD, MODRM | MEMORY_16); // MOVZX r, r/m16
row(twoByte, 0xbe, Operation.LOAD_SIGNED, MODRM | MEMORY_8); // MOVSX r, r/m8
row(twoByte, 0xbf, Operation.LOAD_SIGNED, MODRM | MEMORY_16); // MOVSX r, r/m16

export function oneByteRow(opcode: u32): u32 {
  return oneByte[opcode];
}

export function twoByteRow(opcode: u32): u32 {
  return twoByte[opcode];
}
