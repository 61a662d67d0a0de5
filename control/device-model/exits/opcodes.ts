// What the MMIO decoder knows about each opcode: one row an instruction.
//
// Source: Intel SDM volume 2, appendix "Opcode Map". A new instruction is a row here and, if it does
// something new, an Operation in execute.ts or string-moves.ts.

/** What an instruction does with its memory operand. */
export const enum Operation {
  UNKNOWN = 0, // an instruction that is not emulated
  INVALID = 1, // no instruction
  LOAD = 2, // register = memory, zero-extended
  LOAD_SIGNED = 3, // register = memory, sign-extended
  STORE = 4, // memory = register
  STORE_IMMEDIATE = 5, // memory = immediate
  ALU_MEMORY = 6, // memory = memory op register; op: bits 3..5 of the opcode
  ALU_REGISTER = 7, // register = register op memory; op: bits 3..5 of the opcode
  ALU_IMMEDIATE = 8, // memory = memory op immediate; op: the reg field of ModRM
  TEST_REGISTER = 9, // flags of memory AND register
  TEST_IMMEDIATE = 10, // flags of memory AND immediate
  EXCHANGE = 11, // memory and register change places
  INCREMENT = 12,
  DECREMENT = 13,
  NOT = 14,
  NEGATE = 15,
  SHIFT_IMMEDIATE = 16, // which: the reg field
  SHIFT_ONE = 17,
  SHIFT_CL = 18,
  BIT_IMMEDIATE = 19, // BT, BTS, BTR, BTC: 4..7
  EXCHANGE_ADD = 20,
  COMPARE_EXCHANGE = 21,
  LOAD_SWAPPED = 22, // MOVBE
  STORE_SWAPPED = 23,
  SET_CONDITION = 24,
  MOVE_CONDITION = 25,
  MULTIPLY = 26, // register = register * memory
  MULTIPLY_IMMEDIATE = 27, // register = memory * immediate
  SCAN_FORWARD = 28,
  SCAN_REVERSE = 29,
  NOTHING = 30, // CLFLUSH, CLFLUSHOPT, CLWB
  STORE_SEGMENT = 31, // memory = selector
  LAST_SIMPLE = 31, // up to here: one operand, at the address that ModRM or the offset gives
  BIT_REGISTER = 32, // as BIT_IMMEDIATE; the register's upper bits are part of the address
  COMPARE_EXCHANGE_PAIR = 33, // CMPXCHG8B, CMPXCHG16B
  PUSH = 34,
  POP = 35,
  LAST_MODRM = 35, // from here on: string instructions
  MOVE_STRING = 36,
  COMPARE_STRING = 37,
  STORE_STRING = 38,
  LOAD_STRING = 39,
  SCAN_STRING = 40,
  GROUP = 41, // the reg field of ModRM chooses one of eight rows
}

// The row of an opcode: an Operation (for GROUP also its first row, from GROUP_SHIFT on), and these bits.
export const OPERATION_MASK: u32 = 0x3f;
export const MODRM: u32 = 0x40; // has a ModRM byte
export const BYTE: u32 = 0x80; // the operand is a byte
export const MEMORY_8: u32 = 0x100; // the memory operand is a byte, the register has the operand size
export const MEMORY_16: u32 = 0x200;
export const MEMORY_32: u32 = 0x400; // at most
export const IMMEDIATE: u32 = 0x800; // an immediate of the operand size, at most 4 bytes
export const IMMEDIATE_8: u32 = 0x1000; // an immediate byte, sign-extended
export const OFFSET: u32 = 0x2000; // the address is in the instruction, the register is the accumulator
export const ONLY_64: u32 = 0x4000; // in other code another instruction, which is not emulated
export const NOT_64: u32 = 0x8000; // in 64-bit code invalid
export const LOCKABLE: u32 = 0x10000; // LOCK is allowed
export const STACK: u32 = 0x20000; // in 64-bit code the operand has 64 bits unless there is a prefix
export const CONDITION: u32 = 0x40000; // bits 0..3 of the opcode are a condition
export const NO_REPEAT: u32 = 0x80000; // with F2 or F3 another instruction
export const NO_F3: u32 = 0x2000000; // with F3 another instruction
export const NO_66: u32 = 0x100000; // with 66 another instruction
export const ONLY_MEMORY: u32 = 0x200000; // the register form is invalid
export const PAIR: u32 = 0x400000; // twice the operand size: 8 bytes, with REX.W 16
export const NEEDS_66: u32 = 0x800000; // without 66 another instruction
export const SHIFT: u32 = 0x1000000; // the reg field of ModRM says which of eight

const GROUP_SHIFT: u32 = 8;

const oneByte = new StaticArray<u32>(256);
const twoByte = new StaticArray<u32>(256);
const groups = new StaticArray<u32>(8 * 20);
let groupCount: u32 = 0;

function row(table: StaticArray<u32>, opcode: i32, operation: Operation, bits: u32): void {
  table[opcode] = (<u32>operation) | bits;
}

// Opens a group for an opcode; returns its number. All its rows start as `others`.
function group(table: StaticArray<u32>, opcode: i32, others: Operation): u32 {
  const first = groupCount;
  groupCount += 8;
  for (let i: u32 = 0; i < 8; i++) groups[first + i] = others;
  table[opcode] = Operation.GROUP | (first << GROUP_SHIFT);
  return first;
}

function member(first: u32, reg: u32, operation: Operation, bits: u32): void {
  groups[first + reg] = (<u32>operation) | MODRM | bits;
}

// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP: four forms each; CMP cannot be locked
for (let op = 0; op < 8; op++) {
  const lock = op == 7 ? 0 : LOCKABLE;
  row(oneByte, op * 8, Operation.ALU_MEMORY, MODRM | BYTE | lock);
  row(oneByte, op * 8 + 1, Operation.ALU_MEMORY, MODRM | lock);
  row(oneByte, op * 8 + 2, Operation.ALU_REGISTER, MODRM | BYTE);
  row(oneByte, op * 8 + 3, Operation.ALU_REGISTER, MODRM);
}
aluGroup(0x80, BYTE | IMMEDIATE); // op r/m8, imm8
aluGroup(0x81, IMMEDIATE); // op r/m, imm
aluGroup(0x82, BYTE | IMMEDIATE | NOT_64); // op r/m8, imm8 again
aluGroup(0x83, IMMEDIATE_8); // op r/m, imm8
row(oneByte, 0x84, Operation.TEST_REGISTER, MODRM | BYTE); // TEST r/m8, r8
row(oneByte, 0x85, Operation.TEST_REGISTER, MODRM); // TEST r/m, r
row(oneByte, 0x86, Operation.EXCHANGE, MODRM | BYTE | LOCKABLE); // XCHG r/m8, r8
row(oneByte, 0x87, Operation.EXCHANGE, MODRM | LOCKABLE); // XCHG r/m, r
row(oneByte, 0x63, Operation.LOAD_SIGNED, MODRM | MEMORY_32 | ONLY_64); // MOVSXD
row(oneByte, 0x69, Operation.MULTIPLY_IMMEDIATE, MODRM | IMMEDIATE); // IMUL r, r/m, imm
row(oneByte, 0x6b, Operation.MULTIPLY_IMMEDIATE, MODRM | IMMEDIATE_8); // IMUL r, r/m, imm8
row(oneByte, 0x88, Operation.STORE, MODRM | BYTE); // MOV r/m8, r8
row(oneByte, 0x89, Operation.STORE, MODRM); // MOV r/m, r
row(oneByte, 0x8a, Operation.LOAD, MODRM | BYTE); // MOV r8, r/m8
row(oneByte, 0x8b, Operation.LOAD, MODRM); // MOV r, r/m
row(oneByte, 0x8c, Operation.STORE_SEGMENT, MODRM | MEMORY_16); // MOV r/m16, Sreg
row(oneByte, 0xa0, Operation.LOAD, OFFSET | BYTE); // MOV AL, moffs8
row(oneByte, 0xa1, Operation.LOAD, OFFSET); // MOV rAX, moffs
row(oneByte, 0xa2, Operation.STORE, OFFSET | BYTE); // MOV moffs8, AL
row(oneByte, 0xa3, Operation.STORE, OFFSET); // MOV moffs, rAX
row(oneByte, 0xa4, Operation.MOVE_STRING, BYTE); // MOVSB
row(oneByte, 0xa5, Operation.MOVE_STRING, 0); // MOVSW, MOVSD, MOVSQ
row(oneByte, 0xa6, Operation.COMPARE_STRING, BYTE); // CMPSB
row(oneByte, 0xa7, Operation.COMPARE_STRING, 0); // CMPSW, CMPSD, CMPSQ
row(oneByte, 0xaa, Operation.STORE_STRING, BYTE); // STOSB
row(oneByte, 0xab, Operation.STORE_STRING, 0); // STOSW, STOSD, STOSQ
row(oneByte, 0xac, Operation.LOAD_STRING, BYTE); // LODSB
row(oneByte, 0xad, Operation.LOAD_STRING, 0); // LODSW, LODSD, LODSQ
row(oneByte, 0xae, Operation.SCAN_STRING, BYTE); // SCASB
row(oneByte, 0xaf, Operation.SCAN_STRING, 0); // SCASW, SCASD, SCASQ

// POP r/m; the rest of 8F is XOP
member(group(oneByte, 0x8f, Operation.UNKNOWN), 0, Operation.POP, STACK);
// MOV r/m, imm; XABORT and XBEGIN
for (let wide = 0; wide < 2; wide++) {
  const moves = group(oneByte, 0xc6 + wide, Operation.INVALID);
  member(moves, 0, Operation.STORE_IMMEDIATE, IMMEDIATE | (wide ? 0 : BYTE));
  member(moves, 7, Operation.UNKNOWN, 0);
}
// ROL, ROR, RCL, RCR, SHL, SHR, SAL, SAR
row(oneByte, 0xc0, Operation.SHIFT_IMMEDIATE, MODRM | SHIFT | BYTE | IMMEDIATE_8);
row(oneByte, 0xc1, Operation.SHIFT_IMMEDIATE, MODRM | SHIFT | IMMEDIATE_8);
row(oneByte, 0xd0, Operation.SHIFT_ONE, MODRM | SHIFT | BYTE);
row(oneByte, 0xd1, Operation.SHIFT_ONE, MODRM | SHIFT);
row(oneByte, 0xd2, Operation.SHIFT_CL, MODRM | SHIFT | BYTE);
row(oneByte, 0xd3, Operation.SHIFT_CL, MODRM | SHIFT);
unaryGroup(0xf6, BYTE);
unaryGroup(0xf7, 0);
countGroup(0xfe, Operation.INVALID, BYTE);
const five = countGroup(0xff, Operation.UNKNOWN, 0); // CALL and JMP are not emulated
member(five, 6, Operation.PUSH, STACK); // PUSH r/m
member(five, 7, Operation.INVALID, 0);

for (let condition = 0; condition < 16; condition++) {
  row(twoByte, 0x40 + condition, Operation.MOVE_CONDITION, MODRM | CONDITION); // CMOVcc r, r/m
  row(twoByte, 0x90 + condition, Operation.SET_CONDITION, MODRM | BYTE | CONDITION); // SETcc r/m8
}
for (let op = 0; op < 4; op++) {
  row(twoByte, 0xa3 + 8 * op, Operation.BIT_REGISTER, MODRM | (op == 0 ? 0 : LOCKABLE)); // BT r/m, r
}
row(twoByte, 0xaf, Operation.MULTIPLY, MODRM); // IMUL r, r/m
row(twoByte, 0xb0, Operation.COMPARE_EXCHANGE, MODRM | BYTE | LOCKABLE); // CMPXCHG r/m8, r8
row(twoByte, 0xb1, Operation.COMPARE_EXCHANGE, MODRM | LOCKABLE); // CMPXCHG r/m, r
row(twoByte, 0xb6, Operation.LOAD, MODRM | MEMORY_8); // MOVZX r, r/m8
row(twoByte, 0xb7, Operation.LOAD, MODRM | MEMORY_16); // MOVZX r, r/m16
row(twoByte, 0xbc, Operation.SCAN_FORWARD, MODRM | NO_F3); // BSF; with F3 TZCNT
row(twoByte, 0xbd, Operation.SCAN_REVERSE, MODRM | NO_F3); // BSR; with F3 LZCNT
row(twoByte, 0xbe, Operation.LOAD_SIGNED, MODRM | MEMORY_8); // MOVSX r, r/m8
row(twoByte, 0xbf, Operation.LOAD_SIGNED, MODRM | MEMORY_16); // MOVSX r, r/m16
row(twoByte, 0xc0, Operation.EXCHANGE_ADD, MODRM | BYTE | LOCKABLE); // XADD r/m8, r8
row(twoByte, 0xc1, Operation.EXCHANGE_ADD, MODRM | LOCKABLE); // XADD r/m, r
row(twoByte, 0xc3, Operation.STORE, MODRM | ONLY_MEMORY | NO_66 | NO_REPEAT); // MOVNTI m, r
row(twoByte, 0x0b, Operation.INVALID, 0); // UD2
row(twoByte, 0xb9, Operation.INVALID, 0); // UD1
row(twoByte, 0xff, Operation.INVALID, 0); // UD0
const fences = group(twoByte, 0xae, Operation.UNKNOWN);
member(fences, 6, Operation.NOTHING, MEMORY_8 | NEEDS_66 | NO_REPEAT); // CLWB m8
member(fences, 7, Operation.NOTHING, MEMORY_8 | NO_REPEAT); // CLFLUSH m8, with 66 CLFLUSHOPT m8
const bits = group(twoByte, 0xba, Operation.INVALID);
for (let op = 4; op < 8; op++) {
  member(bits, op, Operation.BIT_IMMEDIATE, IMMEDIATE_8 | (op == 4 ? 0 : LOCKABLE)); // BT r/m, imm8
}
const pairs = group(twoByte, 0xc7, Operation.UNKNOWN);
member(pairs, 1, Operation.COMPARE_EXCHANGE_PAIR, ONLY_MEMORY | PAIR | LOCKABLE); // CMPXCHG8B m64

const NONE_IN_64: u8[] = [
  0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x9a, 0xce, 0xd4, 0xd5, 0xd6,
  0xea,
];
for (let i = 0; i < NONE_IN_64.length; i++) row(oneByte, NONE_IN_64[i], Operation.INVALID, ONLY_64);

function aluGroup(opcode: i32, bits: u32): void {
  const first = group(oneByte, opcode, Operation.UNKNOWN);
  for (let op = 0; op < 8; op++) {
    member(first, op, Operation.ALU_IMMEDIATE, bits | (op == 7 ? 0 : LOCKABLE));
  }
}

// TEST, TEST, NOT, NEG; MUL, IMUL, DIV and IDIV are not emulated
function unaryGroup(opcode: i32, bits: u32): void {
  const first = group(oneByte, opcode, Operation.UNKNOWN);
  member(first, 0, Operation.TEST_IMMEDIATE, bits | IMMEDIATE);
  member(first, 1, Operation.TEST_IMMEDIATE, bits | IMMEDIATE);
  member(first, 2, Operation.NOT, bits | LOCKABLE);
  member(first, 3, Operation.NEGATE, bits | LOCKABLE);
}

// INC, DEC
function countGroup(opcode: i32, others: Operation, bits: u32): u32 {
  const first = group(oneByte, opcode, others);
  member(first, 0, Operation.INCREMENT, bits | LOCKABLE);
  member(first, 1, Operation.DECREMENT, bits | LOCKABLE);
  return first;
}

export function oneByteRow(opcode: u32): u32 {
  return oneByte[opcode];
}

export function twoByteRow(opcode: u32): u32 {
  return twoByte[opcode];
}

/** Opcodes that begin with 0F 38. */
export function threeByteRow(opcode: u32): u32 {
  // With F2 these are CRC32.
  if (opcode == 0xf0) return Operation.LOAD_SWAPPED | MODRM | ONLY_MEMORY | NO_REPEAT; // MOVBE r, m
  if (opcode == 0xf1) return Operation.STORE_SWAPPED | MODRM | ONLY_MEMORY | NO_REPEAT; // MOVBE m, r
  return Operation.UNKNOWN;
}

/** The row that the reg field of ModRM chooses. */
export function groupRow(row: u32, reg: u32): u32 {
  return groups[(row >> GROUP_SHIFT) + reg];
}
