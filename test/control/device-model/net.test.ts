// Network cards: two VMs on one cable. Frames, offloads, filters, links, drivers that are hostile or slow.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CABLE_RING } from "./rig";
import { type CardOptions, F, type Header, NetCard, Pair } from "./net-driver";
import { checkSegment, CWR, ACK, FIN, layout, type Packet, PSH, tcpPacket } from "./packets";
import { NEEDS_RESET, PackedDriver, VERSION_1 } from "./virtio-driver";

const LAP = 2 * CABLE_RING;
const SECOND = 1_000_000_000;
const OFFLOAD = F.CSUM | F.HOST_TSO4 | F.HOST_TSO6 | F.HOST_ECN | F.STATUS;
const TAKES_ALL = OFFLOAD | F.GUEST_CSUM | F.GUEST_TSO4 | F.GUEST_TSO6 | F.GUEST_ECN | F.MERGE;
const NEEDS_CSUM = 1;
const TCP4 = 1;
const TCP6 = 4;
const ECN = 0x80;

function frame(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  for (let n = 0; n < length; n++) bytes[n] = (n * 7 + seed) & 0xff;
  bytes.fill(0xff, 0, 6);
  return bytes;
}

function cards(a: CardOptions = {}, b: CardOptions = a, vcpus = 1): { pair: Pair; a: NetCard; b: NetCard } {
  const pair = new Pair({ vcpus });
  const made = { pair, a: new NetCard(pair.rigs[0]!, a), b: new NetCard(pair.rigs[1]!, b) };
  pair.settle();
  return made;
}

/** The header of a packet whose checksum is still to be completed, and which is to be cut if `gso` is given. */
function headerOf(packet: Packet, gso = 0, more: Header = {}): Header {
  const { tcp, head } = layout(packet);
  const gsoType = gso ? (packet.ip === 6 ? TCP6 : TCP4) : 0;
  return { flags: NEEDS_CSUM, gsoType, gsoSize: gso, headerLength: head, start: tcp, offset: 16, ...more };
}

for (const packed of [false, true]) {
  const name = packed ? "packed" : "split";

  test(`${name}: frames go both ways as they are`, () => {
    const { pair, a, b } = cards({ features: F.STATUS, packed });
    for (let n = 0; n < 40; n++) {
      a.send(frame(60 + 30 * n, n), {}, true, 1 + (n % 3));
      b.send(frame(1514 - 20 * n, n));
      pair.settle();
      assert.equal(b.receive(), [
        {
          flags: 0,
          gsoType: 0,
          headerLength: 0,
          gsoSize: 0,
          start: 0,
          offset: 0,
          buffers: 1,
          frame: frame(60 + 30 * n, n),
        },
      ]);
      assert.equal(
        a.receive().map((r) => r.frame),
        [frame(1514 - 20 * n, n)],
      );
      assert.is(a.sent() + b.sent(), 2);
    }
    assert.is(a.counts.out, 40);
    assert.is(a.counts.bytesOut, b.counts.bytesIn);
    assert.is(b.counts.bytesOut, a.counts.bytesIn);
    assert.is(a.counts.dropsOut + a.counts.dropsIn + b.counts.dropsOut + b.counts.dropsIn, 0);
  });

  test(`${name}: a frame over several buffers, all of them full but the last`, () => {
    const { pair, a, b } = cards({ features: F.MERGE, packed, bufferSize: 100 }, { packed });
    for (const length of [60, 88, 89, 188, 189, 700, 1514]) {
      b.send(frame(length, length));
      pair.settle();
      const [got, ...more] = a.receive();
      assert.is(more.length, 0);
      assert.equal(got!.frame, frame(length, length));
      assert.is(got!.buffers, Math.ceil((length + 12) / 100), `${length} bytes`);
    }
    assert.is(a.counts.in, 7);
  });

  test(`${name}: a frame that finds too few buffers waits until there are enough`, () => {
    const { pair, a, b } = cards({ features: F.MERGE, packed, bufferSize: 100, buffers: 3 }, { packed });
    b.send(frame(400));
    pair.settle();
    assert.equal(a.receive(), []);
    a.post();
    assert.equal(a.receive(), []);
    a.post();
    assert.equal(
      a.receive().map((r) => r.frame),
      [frame(400)],
    );
    assert.is(a.counts.dropsIn, 0);
  });

  test(`${name}: a long packet is passed whole to a driver that takes it`, () => {
    const { pair, a, b } = cards({ features: TAKES_ALL, packed, bufferSize: 4096 });
    for (const ip of [4, 6]) {
      const packet = { ip, payload: 60000, flags: ACK | PSH };
      const header = headerOf(packet, 1448);
      a.send(tcpPacket(packet), header, true, 4);
      pair.settle();
      const [got] = b.receive();
      assert.equal(got!.frame, tcpPacket(packet));
      assert.equal({ ...got, frame: undefined, buffers: 0 }, { ...header, frame: undefined, buffers: 0 });
      assert.ok(got!.buffers > 10);
    }
  });
}

for (const packet of [
  { payload: 1 },
  { payload: 1000 },
  { payload: 1001, options: 12 },
  { payload: 777, vlan: 5 },
  { payload: 100, ip: 6 },
  { payload: 0 },
] as Packet[]) {
  const { head } = layout(packet);
  test(`a checksum is completed for a driver that does not take partial ones: ${JSON.stringify(packet)}`, () => {
    const { pair, a, b } = cards({ features: F.CSUM }, {});
    a.send(tcpPacket(packet), headerOf(packet));
    pair.settle();
    const [got] = b.receive();
    assert.is(got!.flags, 0);
    assert.is(got!.start, 0);
    checkSegment(got!.frame, packet, 0, packet.payload, true);
    assert.is(got!.frame.length, head + packet.payload);
  });
}

test("a partial checksum is passed on to a driver that takes it", () => {
  const packet = { payload: 500 };
  const { pair, a, b } = cards({ features: F.CSUM }, { features: F.GUEST_CSUM });
  a.send(tcpPacket(packet), headerOf(packet));
  pair.settle();
  const [got] = b.receive();
  assert.equal(got!.frame, tcpPacket(packet));
  assert.is(got!.flags, NEEDS_CSUM);
  assert.is(got!.start, layout(packet).tcp);
  assert.is(got!.offset, 16);
});

test("a UDP checksum that would be 0 is sent as all ones", () => {
  const { pair, a, b } = cards({ features: F.CSUM }, {});
  const bytes = frame(64, 0);
  bytes.fill(0, 34);
  bytes.writeUInt16BE(0xffff, 40); // a pseudo-header sum whose complement is 0
  a.send(bytes, { flags: NEEDS_CSUM, start: 34, offset: 6 });
  pair.settle();
  assert.is(b.receive()[0]!.frame.readUInt16BE(40), 0xffff);
});

for (const packet of [
  { payload: 5000, flags: ACK | PSH | FIN },
  { payload: 4344, options: 12, flags: ACK | PSH },
  { payload: 3000, ip: 6, sequence: 0xfffffa00 },
  { payload: 2000, vlan: 7, flags: ACK | CWR },
  { payload: 65000, ip: 4 },
] as Packet[]) {
  for (const merge of [false, true]) {
    test(`a long packet is cut for a driver that does not take it: ${JSON.stringify(packet)}`, () => {
      const gso = 1448;
      const { pair, a, b } = cards(
        { features: OFFLOAD },
        { features: merge ? F.MERGE : 0n, bufferSize: merge ? 512 : 2048, buffers: 24 },
      );
      a.send(tcpPacket(packet), headerOf(packet, gso, packet.flags! & CWR ? { gsoType: TCP4 | ECN } : {}));
      const got = [];
      for (let n = 0; n < 20; n++) {
        pair.settle();
        got.push(...b.receive());
      }
      const count = Math.ceil(packet.payload / gso);
      assert.is(got.length, count);
      got.forEach((segment, n) => {
        const size = Math.min(gso, packet.payload - n * gso);
        checkSegment(segment.frame, packet, n * gso, size, n === count - 1);
        assert.is(segment.flags + segment.gsoType + segment.gsoSize, 0);
      });
      assert.is(b.counts.in, 1, "it counts as the frame that was sent");
      assert.is(b.counts.bytesIn, a.counts.bytesOut);
    });
  }
}

test("segments of one IPv4 packet have identifications in order", () => {
  const packet = { payload: 4000 };
  const { pair, a, b } = cards({ features: OFFLOAD }, {});
  a.send(tcpPacket(packet), headerOf(packet, 1000));
  pair.settle();
  const ids = b.receive().map((r) => r.frame.readUInt16BE(14 + 4));
  assert.equal(ids, [0x12ff, 0x1300, 0x1301, 0x1302]);
});

test("a packet with ECN is cut for a driver that takes long ones, but not with ECN", () => {
  const packet = { payload: 3000, flags: ACK | CWR };
  const { pair, a, b } = cards({ features: OFFLOAD }, { features: TAKES_ALL & ~F.GUEST_ECN });
  a.send(tcpPacket(packet), headerOf(packet, 1448, { gsoType: TCP4 | ECN }));
  a.send(tcpPacket(packet), headerOf(packet, 1448));
  pair.settle();
  assert.equal(
    b.receive().map((r) => r.gsoType),
    [0, 0, 0, TCP4],
  );
});

test("what a card does not know it drops, and counts", () => {
  const packet = { payload: 3000 };
  const good = headerOf(packet, 1448);
  const bytes = tcpPacket(packet);
  const { pair, a, b } = cards({ features: OFFLOAD }, { features: TAKES_ALL });
  let drops = 0;
  for (const [what, data, header] of [
    ["shorter than an Ethernet header", frame(13), {}],
    ["longer than the MTU", frame(1523), {}],
    ["longer than any frame", Buffer.alloc(65536 + 22), good],
    ["a kind of segmentation that was not offered", bytes, { ...good, gsoType: 3 }],
    ["an unknown kind", bytes, { ...good, gsoType: 9 }],
    ["to be cut without a checksum to complete", bytes, { ...good, flags: 0 }],
    ["segments of no length", bytes, { ...good, gsoSize: 0 }],
    ["segments that are too small", bytes, { ...good, gsoSize: 47 }],
    ["a checksum behind its end", frame(100), { flags: NEEDS_CSUM, start: 90, offset: 9 }],
    ["a checksum far behind its end", frame(100), { flags: NEEDS_CSUM, start: 0xffff, offset: 0xffff }],
    ["a checksum over the Ethernet header", frame(100), { flags: NEEDS_CSUM, start: 13, offset: 16 }],
  ] as [string, Buffer, Header][]) {
    a.send(data, header);
    pair.settle();
    assert.equal(b.receive(), [], what);
    assert.is(a.counts.dropsOut, ++drops, what);
    assert.is(a.sent(), 1, what);
  }
  a.send(bytes, good);
  pair.settle();
  assert.is(b.receive().length, 1);
});

test("offloads that were not negotiated are not done", () => {
  const packet = { payload: 3000 };
  const { pair, a, b } = cards({}, { features: TAKES_ALL });
  a.send(tcpPacket({ payload: 100 }), headerOf({ payload: 100 }));
  a.send(tcpPacket(packet), headerOf(packet, 1448));
  pair.settle();
  assert.equal(b.receive(), []);
  assert.is(a.counts.dropsOut, 2);
});

test("a long packet that is no TCP is dropped where it would have to be cut", () => {
  const packet = { payload: 3000 };
  const { tcp, ip } = layout(packet);
  const changes: ((bytes: Buffer) => Header)[] = [
    (bytes) => ((bytes[ip] = 0x65), {}),
    (bytes) => ((bytes[ip] = 0x46), {}),
    (bytes) => ((bytes[tcp + 12] = 0x40), {}),
    (bytes) => ((bytes[tcp + 12] = 0xf0), { start: 2980 }),
    () => ({ start: 14 }),
    () => ({ start: 30 }),
    () => ({ start: 250 }),
    () => ({ offset: 6 }),
    () => ({ gsoType: TCP6 }),
  ];
  changes.forEach((change, n) => {
    const { pair, a, b } = cards({ features: OFFLOAD }, {});
    const bytes = tcpPacket(packet);
    const header = headerOf(packet, 1448, change(bytes));
    a.send(bytes, header);
    a.send(frame(60));
    pair.settle();
    assert.equal(
      b.receive().map((r) => r.frame.length),
      [60],
      `change ${n}`,
    );
    assert.is(b.counts.dropsIn, 1, `change ${n}`);
  });
});

test("a driver without merged buffers loses what does not fit into one", () => {
  const { pair, a, b } = cards({}, { bufferSize: 500 });
  a.send(frame(489));
  a.send(frame(488));
  pair.settle();
  assert.equal(
    b.receive().map((r) => r.frame.length),
    [488],
  );
  assert.is(b.counts.dropsIn, 1);
});

test("offloads can be switched off on the control queue", () => {
  const packet = { payload: 3000 };
  const { pair, a, b } = cards({ features: OFFLOAD }, { features: TAKES_ALL | F.CTRL | F.OFFLOADS });
  const set = (bits: bigint): number => {
    const data = Buffer.alloc(8);
    data.writeBigUInt64LE(bits);
    return b.command(5, 0, data);
  };
  const kinds = (): number[] => {
    a.send(tcpPacket(packet), headerOf(packet, 1448));
    pair.settle();
    return b.receive().map((r) => r.gsoType);
  };
  assert.equal(kinds(), [TCP4]);
  assert.is(set(F.GUEST_CSUM), 0);
  assert.equal(kinds(), [0, 0, 0]);
  assert.is(set(F.GUEST_CSUM | F.GUEST_TSO4), 0);
  assert.equal(kinds(), [TCP4]);
  assert.is(set(1n << 14n), 1, "what was not negotiated");
  assert.is(b.command(5, 0, Buffer.alloc(7)), 1, "too short");
});

test("the control queue: filters by address", () => {
  const { pair, a, b } = cards({}, { features: F.CTRL | F.CTRL_RX | F.CTRL_EXTRA | F.CTRL_MAC | F.MAC });
  const own = [0xa2, 0, 0, 0, 0, 2];
  const other = [2, 9, 9, 9, 9, 9];
  const group = [1, 0, 0x5e, 0, 0, 1];
  const all = [255, 255, 255, 255, 255, 255];
  const got = (): string =>
    [own, other, group, all]
      .map((to) => {
        const bytes = frame(60);
        bytes.set(to);
        a.send(bytes);
        pair.settle();
        return b.receive().length;
      })
      .join("");
  const table = (...tables: number[][][]): Buffer =>
    Buffer.concat(tables.map((t) => Buffer.from([t.length & 255, t.length >> 8, 0, 0, ...t.flat()])));
  const on = Buffer.from([1]);
  const off = Buffer.from([0]);
  assert.is(got(), "1111", "promiscuous after a reset");
  assert.is(b.command(0, 0, off), 0);
  assert.is(got(), "1001");
  assert.is(b.command(0, 1, on), 0);
  assert.is(got(), "1011", "all groups");
  assert.is(b.command(0, 1, off), 0);
  assert.is(b.command(1, 0, table([other], [group])), 0);
  assert.is(got(), "1111", "tables");
  assert.is(b.command(1, 0, table([], [])), 0);
  assert.is(got(), "1001");
  assert.is(b.command(1, 0, table([], Array(33).fill([3, 0, 0, 0, 0, 0]))), 0);
  assert.is(got(), "1011", "a table that is too long means all");
  assert.is(b.command(1, 0, table([], [])), 0);
  assert.is(b.command(0, 2, on), 0);
  assert.is(got(), "1101", "all single addresses");
  assert.is(b.command(0, 2, off), 0);
  assert.is(b.command(0, 5, on), 0);
  assert.is(got(), "1000", "no broadcasts");
  assert.is(b.command(0, 4, on), 0);
  assert.is(got(), "0000", "no single addresses");
  assert.is(b.command(0, 1, on), 0);
  assert.is(b.command(0, 3, on), 0);
  assert.is(got(), "0000", "no groups");
  for (const command of [3, 4, 5]) assert.is(b.command(0, command, off), 0);
  assert.is(b.command(0, 1, off), 0);
  assert.is(b.command(1, 1, Buffer.from(other)), 0);
  assert.is(got(), "0101", "another address of its own");
  assert.equal(
    other.map((_, n) => b.driver.get(0x2000 + n, 1)),
    other,
  );
  for (const [kind, number, data] of [
    [0, 6, on],
    [0, 0, Buffer.alloc(0)],
    [1, 0, Buffer.from([1, 0, 0, 0])],
    [1, 0, table([other])],
    [1, 0, Buffer.from([255, 255, 255, 255])],
    [1, 1, Buffer.from([1, 2, 3])],
    [9, 0, on],
  ] as [number, number, Buffer][])
    assert.is(b.command(kind, number, data), 1, `${kind}.${number}`);
  const dropped = b.counts.dropsIn;
  assert.is(a.counts.out, b.counts.in + dropped);
});

test("the control queue: filters by VLAN", () => {
  const { pair, a, b } = cards({}, { features: F.CTRL | F.CTRL_RX | F.CTRL_VLAN });
  const got = (): string =>
    [undefined, 5, 4095]
      .map((vlan) => {
        const bytes = tcpPacket({ payload: 10, vlan });
        bytes.fill(0xff, 0, 6);
        a.send(bytes);
        pair.settle();
        return b.receive().length;
      })
      .join("");
  const id = (n: number): Buffer => Buffer.from([n & 255, n >> 8]);
  assert.is(b.command(0, 0, Buffer.from([0])), 0);
  assert.is(got(), "100");
  assert.is(b.command(2, 0, id(5)), 0);
  assert.is(got(), "110");
  assert.is(b.command(2, 0, id(4095)), 0);
  assert.is(b.command(2, 1, id(5)), 0);
  assert.is(got(), "101");
  assert.is(b.command(2, 0, id(4096)), 1);
  assert.is(b.command(2, 0, Buffer.from([1])), 1);
});

test("the configuration: address, MTU, link", () => {
  const { pair, a, b } = cards({ features: F.STATUS | F.MAC | F.MTU });
  assert.is(a.driver.get(0x2000, 4), 0xa2);
  assert.is(a.driver.get(0x2004, 2), 0x0100);
  assert.is(b.driver.get(0x2004, 2), 0x0200);
  assert.is(a.driver.get(0x200a, 2), 1500);
  assert.is(a.status, 1);
  assert.is(a.driver.get(0x2008, 2), 1, "one pair of queues");
  a.driver.set(0x2000, 4, 0);
  assert.is(a.driver.get(0x2000, 4), 0xa2, "it cannot be written");
  pair.settle();
});

test("a link is up while both drivers are ready", () => {
  const pair = new Pair();
  const a = new NetCard(pair.rigs[0]!, { features: F.STATUS });
  pair.settle();
  assert.is(a.status, 0);
  a.driver.set(0x10, 2, 0); // the configuration's vector
  a.driver.useMsix(4);
  a.send(frame(60));
  assert.is(a.sent(), 1, "sent frames are dropped");
  assert.is(a.counts.dropsOut, 1);
  const b = new NetCard(pair.rigs[1]!, { features: F.STATUS });
  pair.settle();
  assert.is(a.status, 1);
  assert.is(b.status, 1);
  assert.equal(
    a.rig.msis.map((msi) => msi.data),
    [0x42, 0x40],
    "of the dropped frame, and of the link",
  );
  b.driver.set(0x14, 1, 0); // its driver resets it
  pair.settle();
  assert.is(a.status, 0);
  b.start();
  pair.settle();
  assert.is(a.status, 1);
  a.send(frame(70));
  pair.settle();
  assert.equal(
    b.receive().map((r) => r.frame),
    [frame(70)],
  );
});

test("a driver is asked to announce itself when the link comes up", () => {
  const features = F.STATUS | F.ANNOUNCE | F.CTRL;
  const { a } = cards({ features }, {});
  assert.is(a.status, 3);
  assert.is(a.command(3, 0), 0);
  assert.is(a.status, 1);
});

test("a VM that goes on from a snapshot announces itself; a clone's card has another address, for the next driver", () => {
  const features = F.STATUS | F.ANNOUNCE | F.CTRL | F.CTRL_RX | F.MAC;
  const { pair, a, b } = cards({ features });
  const to = (address: number[]): Buffer => Buffer.from([...address, ...frame(60).subarray(6)]);
  const received = (): number => {
    pair.settle();
    return b.receive().length;
  };
  const born = { t: "reborn", generation: Buffer.alloc(16, 7), addresses: [0x0708090a0b0en] };
  const before = [0xa2, 0, 0, 0, 0, 2];
  const after = [0x0e, 0x0b, 0x0a, 0x09, 0x08, 0x07];
  const address = (): number[] => [...Array(6).keys()].map((n) => b.driver.get(0x2000 + n, 1));
  assert.equal(address(), before);
  assert.is(b.command(0, 0, Buffer.from([0])), 0); // not promiscuous
  assert.is(b.command(3, 0), 0);
  assert.is(b.status, 1);
  const count = b.driver.get(0x15, 1);
  b.rig.command(born);
  assert.is(b.status, 3);
  assert.equal(address(), before);
  assert.ok(b.driver.get(0x15, 1) !== count, "the configuration has changed");
  b.rig.command({ ...born, clone: true });
  assert.equal(address(), after);
  a.send(to(before));
  assert.is(received(), 1, "its driver goes on with the address that it knows");
  a.send(to(after));
  assert.is(received(), 0);
  b.driver.set(0x14, 1, 0);
  b.start();
  pair.settle();
  assert.is(b.command(0, 0, Buffer.from([0])), 0);
  assert.equal(address(), after);
  a.send(to(before));
  assert.is(received(), 0);
  a.send(to(after));
  assert.is(received(), 1);
});

test("a VM that goes on from a snapshot goes on on another cable", () => {
  const { pair, a, b } = cards({ features: F.STATUS });
  const born = { t: "reborn", generation: Buffer.alloc(16, 7), clone: true };
  const flows = (seed: number): void => {
    a.send(frame(60, seed));
    b.send(frame(70, seed));
    pair.settle();
    for (const [card, length] of [
      [a, 70],
      [b, 60],
    ] as const)
      assert.equal(
        card.receive().map((got) => got.frame),
        [frame(length, seed)],
      );
  };
  for (let n = 0; n < 5; n++) flows(n);
  // One of them: the control domain has said that its side is gone.
  pair.cable.fill(0, 64, 128);
  a.rig.signalCable(0);
  pair.settle();
  assert.is(a.status, 0);
  b.rig.command(born);
  pair.settle();
  assert.equal([a.status, b.status], [1, 1]);
  flows(7);
  // Both, on a new one.
  pair.cable.fill(0);
  a.rig.command(born);
  pair.settle();
  assert.is(a.status, 0);
  b.rig.command(born);
  pair.settle();
  assert.equal([a.status, b.status], [1, 1]);
  flows(8);
  // A card whose driver is not there stays unplugged.
  b.driver.set(0x14, 1, 0);
  b.rig.command(born);
  pair.settle();
  assert.is(a.status, 0);
});

test("a peer that is gone, and comes back", () => {
  const { pair, a, b } = cards({ features: F.STATUS });
  b.send(frame(60, 1)); // sent, and not read yet
  pair.end(1);
  pair.settle();
  assert.is(a.status, 0);
  a.receive();
  for (let n = 0; n < 100; n++) a.send(frame(1000, n));
  assert.is(a.sent(), 100);
  assert.is(a.counts.dropsOut, 100);
  const again = new NetCard(pair.boot(1), { features: F.STATUS });
  pair.settle();
  assert.is(a.status, 1);
  for (let n = 0; n < 300; n++) {
    a.send(frame(1000, n));
    again.send(frame(800, n));
    pair.settle();
    assert.equal(
      again.receive().map((r) => r.frame),
      [frame(1000, n)],
    );
    assert.equal(
      a.receive().map((r) => r.frame),
      [frame(800, n)],
    );
  }
});

test("a full cable keeps the sender's buffers until there is room", () => {
  const { pair, a, b } = cards({}, { buffers: 2, bufferSize: 2048 });
  let sent = 0;
  while (a.sent() === 1 || sent === 0) a.send(frame(1500, sent++), {}, true, 1);
  assert.ok(sent > 40, `${sent} frames fit`);
  for (let n = 0; n < 3; n++) a.send(frame(1500, sent++));
  assert.is(a.sent(), 0);
  const got = [];
  for (let n = 0; n < 200 && got.length < sent; n++) {
    pair.settle();
    got.push(...b.receive());
  }
  assert.equal(
    got.map((r) => r.frame),
    Array.from({ length: sent }, (_, n) => frame(1500, n)),
  );
  assert.is(a.counts.dropsOut + b.counts.dropsIn, 0);
});

test("a driver that takes nothing for a second loses what waits, and its peer goes on", () => {
  const { pair, a, b } = cards({}, { buffers: 0 });
  let sent = 0;
  while (a.sent() === 1 || sent === 0) a.send(frame(1500, sent++));
  pair.settle();
  assert.is(a.sent(), 0);
  b.rig.advance(SECOND * 1.1);
  pair.settle();
  assert.is(a.sent(), 1, "the last one");
  assert.is(b.counts.dropsIn, sent - 1);
  b.post();
  assert.equal(
    b.receive(false).map((r) => r.frame),
    [frame(1500, sent - 1)],
  );
});

test("a driver that takes frames slowly loses none", () => {
  const { pair, a, b } = cards({}, { buffers: 1 });
  for (let n = 0; n < 10; n++) a.send(frame(100, n));
  pair.settle();
  for (let n = 0; n < 10; n++) {
    const got = b.receive(false).map((r) => r.frame);
    assert.equal(got, [frame(100, n)]);
    b.rig.advance(SECOND * 0.9);
    pair.settle();
    b.post();
  }
  assert.is(b.counts.dropsIn, 0);
});

test("a device that its driver has broken pulls its plug", () => {
  const { pair, a, b } = cards({ features: F.STATUS });
  b.driver.descriptor(b.driver.queues[1]!.descriptors, 0x4000000, 64, 0);
  b.driver.offer(1, 0);
  b.driver.notify(1);
  assert.is(b.driver.status & NEEDS_RESET, NEEDS_RESET);
  pair.settle();
  assert.is(a.status, 0);
  a.send(frame(60));
  assert.is(a.sent(), 1);
  b.start();
  pair.settle();
  assert.is(a.status, 1);
});

for (const [what, act] of [
  [
    "a frame without a header",
    (card: NetCard) => {
      card.driver.chain(card.driver.queues[1]!.descriptors, [{ address: 0x500000, length: 11 }]);
      card.driver.offer(1, 0);
      card.driver.notify(1);
    },
  ],
  [
    "a command without room for its answer",
    (card: NetCard) => {
      card.driver.chain(card.driver.queues[2]!.descriptors, [{ address: 0x500000, length: 3 }]);
      card.driver.offer(2, 0);
      card.driver.notify(2);
    },
  ],
] as const) {
  test(`hostile: ${what}`, () => {
    const { a } = cards();
    act(a);
    assert.is(a.driver.status & NEEDS_RESET, NEEDS_RESET);
  });
}

test("hostile: a receive buffer without room for the header", () => {
  const { pair, a, b } = cards({}, { features: F.MERGE, bufferSize: 11 });
  a.send(frame(60));
  pair.settle();
  assert.is(b.driver.status & NEEDS_RESET, NEEDS_RESET);
});

test("hostile: the second buffer of a frame has no room for a header", () => {
  const { pair, a, b } = cards(
    { packed: true },
    { features: F.MERGE, packed: true, bufferSize: 64, buffers: 1 },
  );
  (b.driver as PackedDriver).offerBuffer(0, [{ address: 0x500000, length: 4, write: true }], 9);
  a.send(frame(200));
  pair.settle();
  assert.is(b.driver.status & NEEDS_RESET, NEEDS_RESET);
  assert.is(b.driver.take(0), undefined, "nothing was used");
});

test("a peer that writes nonsense harms nobody but the frames", () => {
  let seed = 12345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const { pair, a } = cards({ features: TAKES_ALL & ~F.GUEST_TSO4, bufferSize: 2048 });
  const { cable } = pair;
  for (let n = 0; n < 3000; n++) {
    const kind = random(6);
    // Side 1 is hostile: its words, and the records in its ring.
    if (kind === 0) cable.writeUInt32LE(random(2 ** 32), 64 + 4 * random(4));
    else if (kind === 1) cable.writeUInt32LE(random(LAP) & ~15, 64 + 4);
    else if (kind === 2) cable.writeUInt32LE(random(LAP) & ~15, 64 + 8);
    else {
      const at = 0x1000 + CABLE_RING + (random(CABLE_RING) & ~15);
      cable.writeUInt32LE(kind === 3 ? random(2 ** 32) : random(66000), at);
      for (let i = 0; i < 10; i++) cable[at + 4 + i] = random(random(2) ? 256 : 3);
      const words = cable.readUInt32LE(8); // where side 0 reads next
      cable.copy(cable, 0x1000 + CABLE_RING + (words % CABLE_RING), at, at + 16);
      cable.writeUInt32LE((words + (random(70000) & ~15)) % LAP, 64 + 4);
    }
    if (random(50) === 0) cable.writeUInt32LE(random(2), 64);
    a.rig.signalCable(0);
    a.receive();
    if (random(4) === 0) a.send(frame(60 + random(1000)));
    if (random(20) === 0) a.rig.advance(SECOND);
  }
  pair.end(1);
  pair.settle();
  const b = new NetCard(pair.boot(1), { features: F.STATUS });
  pair.settle();
  a.receive();
  a.start();
  pair.settle();
  a.send(frame(100));
  pair.settle();
  assert.equal(
    b.receive().map((r) => r.frame),
    [frame(100)],
  );
});

const MQ = F.CTRL | F.MQ;
const pairsData = (pairs: number): Buffer => Buffer.from([pairs & 255, pairs >> 8]);

/** A TCP packet of one of 256 flows, or an answer to it. */
function flow(n: number, ip: number, answer = false): Buffer {
  const bytes = tcpPacket({ ip, payload: 20 });
  const ports = layout({ ip, payload: 20 }).tcp;
  bytes.writeUInt16BE(1000 + n, ports + (answer ? 2 : 0));
  bytes.writeUInt16BE(80, ports + (answer ? 0 : 2));
  if (!answer) return bytes;
  const [at, size] = ip === 6 ? [14 + 8, 16] : [14 + 12, 4];
  const from = Buffer.from(bytes.subarray(at, at + size));
  bytes.copy(bytes, at, at + size, at + 2 * size);
  from.copy(bytes, at + size);
  return bytes;
}

for (const packed of [false, true]) {
  test(`${packed ? "packed" : "split"}: a flow's answers come to the pair that it was sent by`, () => {
    const { pair, a, b } = cards({ features: MQ, packed, pairs: 4 }, { packed }, 4);
    assert.is(a.driver.get(0x2008, 2), 4, "pairs of queues");
    assert.is(a.command(4, 0, pairsData(4)), 0);
    for (const ip of [4, 6]) {
      for (const [n, by] of [3, 1, 2, 0, 1].entries()) {
        a.send(flow(n, ip), {}, true, 3, by);
        assert.is(a.sent(by), 1);
        pair.settle();
        assert.equal(b.receive()[0]!.frame, flow(n, ip));
        b.send(flow(n, ip, true));
        pair.settle();
        for (const to of [0, 1, 2, 3])
          assert.equal(
            a.receive(true, to).map((r) => r.frame),
            to === by ? [flow(n, ip, true)] : [],
            `IPv${ip}, sent by ${by}, received by ${to}`,
          );
      }
    }
    // With one pair everything comes to the first.
    a.send(flow(9, 4), {}, true, 1, 2);
    assert.is(a.command(4, 0, pairsData(1)), 0);
    b.send(flow(9, 4, true));
    b.send(frame(60));
    pair.settle();
    assert.is(a.receive().length, 2);
  });
}

test("pairs that wait for room in the cable all go on when there is some", () => {
  const { pair, a, b } = cards({ features: MQ, pairs: 2 }, { buffers: 0 }, 2);
  assert.is(a.command(4, 0, pairsData(2)), 0);
  let sent = 0;
  for (let n = 0; n < 80; n++) {
    a.send(frame(1500, n), {}, true, 1, n & 1);
    sent += a.sent(n & 1);
    if (n - sent >= 6) break; // three of each pair wait
  }
  const waiting = (): number => a.sent(0) + a.sent(1);
  for (let n = 0; n < 16; n++) b.post();
  pair.settle();
  assert.is(waiting(), 7);
});

test("the control queue: pairs", () => {
  const { a } = cards({ features: MQ, pairs: 3 }, {}, 3);
  for (const [pairs, answer] of [
    [3, 0],
    [4, 1],
    [0, 1],
    [0x8000, 1],
    [0xffff, 1],
    [1, 0],
  ])
    assert.is(a.command(4, 0, pairsData(pairs!)), answer, `${pairs} pairs`);
  for (const number of [1, 2, 255]) assert.is(a.command(4, number, Buffer.alloc(64)), 1, "no RSS, no hashes");
  for (const queue of [7, 8, 200]) a.driver.set(0x3000, 2, queue);
  assert.is(a.driver.status & NEEDS_RESET, 0);
});

test("a VM with one vCPU has one pair", () => {
  const { a } = cards({ features: F.CTRL });
  assert.is(a.driver.offered & F.MQ, 0n);
  assert.is(a.command(4, 0, pairsData(1)), 1);
});

test("queues of pairs that the driver has not asked for do nothing", () => {
  const { a } = cards({ features: F.CTRL }, {}, 4);
  for (const queue of [3, 4, 8]) {
    a.driver.addQueue(queue, 32);
    a.driver.send(queue, [{ address: 0x500000, length: 1, write: true }]);
    assert.is(a.driver.take(queue), undefined);
  }
  assert.is(a.command(0, 0, Buffer.from([1])), 1, "the third is the control queue");
  assert.is(a.driver.status & NEEDS_RESET, 0);
});

test("a command without its feature is refused", () => {
  const { a } = cards({ features: F.CTRL }, {}, 4);
  const data = Buffer.alloc(64, 1);
  for (let kind = 0; kind < 8; kind++)
    for (let number = 0; number < 8; number++)
      assert.is(a.command(kind, number, data), 1, `${kind}.${number}`);
});

test("hostile: commands of every class, number and length are answered", () => {
  const all = Object.values(F).reduce((sum, bit) => sum | bit);
  const { a } = cards({ features: all, pairs: 4 }, {}, 4);
  for (const fill of [0, 1, 0xff])
    for (let size = 0; size < 40; size++)
      for (let kind = 0; kind < 7; kind++)
        for (let number = 0; number < 7; number++) {
          const bytes = Buffer.alloc(40, fill);
          bytes[0] = kind;
          bytes[1] = number;
          const answer = a.rawCommand(bytes, size);
          const what = `${kind}.${number}, ${size} bytes of ${fill}`;
          if (size < 2 || kind > 5) assert.is(answer, 1, what);
          else assert.ok(answer === 0 || answer === 1, what);
        }
  assert.is(a.driver.status & NEEDS_RESET, 0);
});

test("the features that are offered", () => {
  const { a } = cards({}, {}, 2);
  const offered = a.driver.offered;
  for (const [name, bit] of Object.entries(F)) assert.is((offered & bit) !== 0n, true, name);
  assert.is(offered & VERSION_1, VERSION_1);
});

test.run();
