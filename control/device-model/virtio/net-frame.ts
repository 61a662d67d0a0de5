// What a network card does to frames: checks what comes with them, completes checksums, and cuts long TCP
// packets into segments for a driver that takes neither.
//
// Source: virtio 1.2, section 5.1.6, "Device Operation"; RFC 9293 (TCP), RFC 1071 (checksum).

/** The header that travels before each frame, without its last field (buffers u16). */
export const FLAGS: usize = 0;
export const GSO_TYPE: usize = 1;
export const GSO_SIZE: usize = 4;
export const CSUM_START: usize = 6;
export const CSUM_OFFSET: usize = 8;

export const NEEDS_CSUM: u32 = 1;
export const GSO_NONE: u32 = 0;
export const GSO_TCP4: u32 = 1;
export const GSO_TCP6: u32 = 4;
export const GSO_ECN: u32 = 0x80;

/** How much of a frame may have to be changed. */
export const HEAD_MAX: u32 = 256;

const ETHERNET: u32 = 14;
const TAGS_MAX: u32 = 8;
const IPV4: u32 = 20;
const IPV6: u32 = 40;
const TCP: u32 = 20;
const TCP_CSUM_OFFSET: u32 = 16;
/** No TCP has smaller segments; it also bounds how many there can be. */
const SEGMENT_MIN: u32 = 48;

const TYPE_IPV4: u32 = 0x0800;
const TYPE_IPV6: u32 = 0x86dd;
const PROTOCOL_TCP: u32 = 6;
const PROTOCOL_UDP: u32 = 17;
const FRAGMENT: u32 = 0x3fff; // more of them, or not the first
const TCP_FIN_PSH: u32 = 0x09;
const TCP_CWR: u32 = 0x80;

export function be16(at: usize): u32 {
  return <u32>bswap<u16>(load<u16>(at));
}

function setBe16(at: usize, value: u32): void {
  store<u16>(at, bswap<u16>(<u16>value));
}

/** Whether a frame of `length` bytes, `mtu` without its Ethernet header, can have this header. */
export function headerIsSound(header: usize, length: u32, mtu: u32): bool {
  if (length < ETHERNET) return false;
  const kind = (<u32>load<u8>(header, GSO_TYPE)) & ~GSO_ECN;
  const start = <u32>load<u16>(header, CSUM_START);
  const place = start + load<u16>(header, CSUM_OFFSET);
  const partial = (load<u8>(header, FLAGS) & NEEDS_CSUM) != 0;
  if (partial && (start < ETHERNET || place + 2 > length)) return false;
  if (kind == GSO_NONE) return length <= mtu + ETHERNET + TAGS_MAX;
  return (kind == GSO_TCP4 || kind == GSO_TCP6) && partial && load<u16>(header, GSO_SIZE) >= SEGMENT_MIN;
}

/** Adds bytes to a sum of 16-bit words, as they lie; only the last piece may have an odd length. */
export function addBytes(sum: u64, from: usize, length: u32): u64 {
  let at: u32 = 0;
  for (; at + 4 <= length; at += 4) sum += load<u32>(from + at);
  if (length & 2) {
    sum += load<u16>(from + at);
    at += 2;
  }
  return length & 1 ? sum + load<u8>(from + at) : sum;
}

/** The checksum that goes with a sum, as it lies; never 0, which means "none" in UDP. */
export function fold(sum: u64): u32 {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  const checksum = ~(<u32>sum) & 0xffff;
  return checksum == 0 ? 0xffff : checksum;
}

/** What is behind the Ethernet header and its tags, of which there are at most two. */
function findIp(frame: usize): u32 {
  let at = ETHERNET;
  while (at < ETHERNET + TAGS_MAX && isTag(be16(frame + at - 2))) at += 4;
  return at;
}

/** How much of a frame tells its flow. */
export const FLOW_HEAD: u32 = ETHERNET + TAGS_MAX + IPV6 + 4;

/**
 * A byte that a flow's frames have in common, both ways; 0 for what is not IP. Of a frame, `have` bytes are at
 * `frame`; FLOW_HEAD can be read.
 */
export function flowOf(frame: usize, have: u32): u32 {
  const ip = findIp(frame);
  const at = frame + ip;
  const type = be16(at - 2);
  const isV4 = type == TYPE_IPV4;
  if ((!isV4 && type != TYPE_IPV6) || ip + (isV4 ? IPV4 : IPV6) > have) return 0;
  const end: u32 = isV4 ? IPV4 : IPV6;
  let sum: u32 = 0;
  for (let n: u32 = isV4 ? 12 : 8; n < end; n += 4) sum ^= load<u32>(at + n);
  const protocol = <u32>load<u8>(at + (isV4 ? 9 : 6));
  const ports = isV4 ? ((<u32>load<u8>(at)) & 15) * 4 : IPV6;
  const isWhole = !isV4 || !(be16(at + 6) & FRAGMENT);
  if (isWhole && (protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP) && ip + ports + 4 <= have)
    sum ^= load<u16>(at + ports) ^ load<u16>(at + ports + 2);
  sum ^= sum >> 16;
  return (sum ^ (sum >> 8)) & 0xff;
}

/** A long TCP packet, of which the head is in linear memory at `at`; `parse` finds out what it is. */
export class LongPacket {
  /** Bytes of all headers. */
  length: u32 = 0;
  /** Bytes of a segment's payload. */
  segment: u32 = 0;

  private ip: u32 = 0;
  private tcp: u32 = 0;
  private isV4: bool = false;

  constructor(private readonly at: usize) {}

  /** Of the frame of `total` bytes, `have` are there. False: it is no TCP packet that can be cut. */
  parse(header: usize, have: u32, total: u32): bool {
    const kind = (<u32>load<u8>(header, GSO_TYPE)) & ~GSO_ECN;
    this.isV4 = kind == GSO_TCP4;
    this.tcp = load<u16>(header, CSUM_START);
    this.segment = load<u16>(header, GSO_SIZE);
    if (load<u16>(header, CSUM_OFFSET) != TCP_CSUM_OFFSET || this.tcp + TCP > have) return false;
    this.ip = findIp(this.at);
    const least = this.isV4 ? IPV4 : IPV6;
    if (this.ip + least > this.tcp) return false;
    const first = <u32>load<u8>(this.at + this.ip);
    if (first >> 4 != (this.isV4 ? 4 : 6)) return false;
    if (this.isV4 && (first & 15) * 4 != this.tcp - this.ip) return false;
    const tcpLength = ((<u32>load<u8>(this.at + this.tcp, 12)) >> 4) * 4;
    this.length = this.tcp + tcpLength;
    return tcpLength >= TCP && this.length <= have && this.length <= total;
  }

  /**
   * Makes the headers of the segment that begins at byte `offset` of the payload, at `to`. `sum` is that of
   * its `size` bytes.
   */
  cut(to: usize, offset: u32, size: u32, isLast: bool, sum: u64): void {
    memory.copy(to, this.at, this.length);
    const ip = to + this.ip;
    const tcp = to + this.tcp;
    const tcpLength = this.length - this.tcp + size;
    if (this.isV4) {
      setBe16(ip + 2, this.tcp - this.ip + tcpLength);
      setBe16(ip + 4, be16(ip + 4) + offset / this.segment);
      store<u16>(ip, 0, 10);
      store<u16>(ip, <u16>fold(addBytes(0, ip, this.tcp - this.ip)), 10);
      sum = addBytes(sum, ip + 12, 8);
    } else {
      setBe16(ip + 4, this.tcp - this.ip - IPV6 + tcpLength);
      sum = addBytes(sum, ip + 8, 32);
    }
    store<u32>(tcp, bswap<u32>(bswap<u32>(load<u32>(tcp, 4)) + offset), 4);
    let flags = <u32>load<u8>(tcp, 13);
    if (!isLast) flags &= ~TCP_FIN_PSH;
    if (offset > 0) flags &= ~TCP_CWR;
    store<u8>(tcp, <u8>flags, 13);
    store<u16>(tcp, 0, TCP_CSUM_OFFSET);
    sum += bswap<u16>(<u16>PROTOCOL_TCP) + <u32>bswap<u16>(<u16>tcpLength);
    store<u16>(tcp, <u16>fold(addBytes(sum, tcp, this.length - this.tcp)), TCP_CSUM_OFFSET);
  }
}

/** Whether an EtherType is that of a VLAN tag. */
export function isTag(type: u32): bool {
  return type == 0x8100 || type == 0x88a8;
}
