// TCP and UDP packets for tests of network cards, and an independent check of everything in them.

import * as assert from "uvu/assert";

export interface Packet {
  /** 4 or 6. */
  ip?: number;
  payload: number;
  vlan?: number;
  sequence?: number;
  flags?: number;
  /** TCP options in bytes. */
  options?: number;
}

export const FIN = 1;
export const PSH = 8;
export const ACK = 16;
export const CWR = 128;

export function sum16(bytes: Uint8Array, start = 0): number {
  let sum = start;
  for (let n = 0; n < bytes.length; n += 2) sum += (bytes[n]! << 8) | (bytes[n + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

/** Where things are in a packet of tcpPacket(). */
export function layout(packet: Packet): { ip: number; tcp: number; head: number } {
  const ip = packet.vlan === undefined ? 14 : 18;
  const tcp = ip + (packet.ip === 6 ? 40 : 20);
  return { ip, tcp, head: tcp + 20 + (packet.options ?? 0) };
}

function pseudo(bytes: Buffer, ip: number, version: number, length: number): number {
  const addresses = version === 6 ? bytes.subarray(ip + 8, ip + 40) : bytes.subarray(ip + 12, ip + 20);
  return sum16(addresses, 6 + length);
}

/** A frame as a stack leaves it to its card: its TCP checksum is that of the pseudo header only. */
export function tcpPacket(packet: Packet): Buffer {
  const { ip, tcp, head } = layout(packet);
  const bytes = Buffer.alloc(head + packet.payload);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
  if (packet.vlan !== undefined) bytes.set([0x81, 0, packet.vlan >> 8, packet.vlan & 0xff], 12);
  bytes.writeUInt16BE(packet.ip === 6 ? 0x86dd : 0x0800, ip - 2);
  if (packet.ip === 6) {
    bytes[ip] = 0x60;
    bytes.writeUInt16BE((bytes.length - tcp) & 0xffff, ip + 4);
    bytes.set([6, 64], ip + 6);
    for (let n = 8; n < 40; n++) bytes[ip + n] = n * 5;
  } else {
    bytes.set([0x45, 0, 0, 0, 0x12, 0xff, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], ip);
    bytes.writeUInt16BE((bytes.length - ip) & 0xffff, ip + 2);
    bytes.writeUInt16BE(~sum16(bytes.subarray(ip, tcp)) & 0xffff, ip + 10);
  }
  bytes.writeUInt16BE(1234, tcp);
  bytes.writeUInt16BE(7000, tcp + 2);
  bytes.writeUInt32BE((packet.sequence ?? 1000) >>> 0, tcp + 4);
  bytes[tcp + 12] = (5 + (packet.options ?? 0) / 4) << 4;
  bytes[tcp + 13] = packet.flags ?? ACK;
  bytes.fill(1, tcp + 20, head);
  for (let n = head; n < bytes.length; n++) bytes[n] = (n * 31 + (n >> 8)) & 0xff;
  bytes.writeUInt16BE(pseudo(bytes, ip, packet.ip ?? 4, bytes.length - tcp), tcp + 16);
  return bytes;
}

/** Checks a finished segment of that packet, which carries `size` bytes from `offset` of its payload. */
export function checkSegment(
  bytes: Buffer,
  packet: Packet,
  offset: number,
  size: number,
  last: boolean,
): void {
  const { ip, tcp, head } = layout(packet);
  const whole = tcpPacket(packet);
  assert.is(bytes.length, head + size);
  assert.equal(bytes.subarray(0, ip), whole.subarray(0, ip));
  assert.equal(bytes.subarray(head), whole.subarray(head + offset, head + offset + size), "payload");
  if (packet.ip === 6) assert.is(bytes.readUInt16BE(ip + 4), bytes.length - tcp);
  else {
    assert.is(bytes.readUInt16BE(ip + 2), bytes.length - ip);
    assert.is(sum16(bytes.subarray(ip, tcp)), 0xffff, "the IPv4 header's checksum");
  }
  assert.is(bytes.readUInt32BE(tcp + 4), ((packet.sequence ?? 1000) + offset) >>> 0);
  let flags = packet.flags ?? ACK;
  if (!last) flags &= ~(FIN | PSH);
  if (offset > 0) flags &= ~CWR;
  assert.is(bytes[tcp + 13], flags, "TCP flags");
  const length = bytes.length - tcp;
  assert.is(sum16(bytes.subarray(tcp), pseudo(bytes, ip, packet.ip ?? 4, length)), 0xffff, "TCP checksum");
}
