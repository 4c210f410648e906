import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../../emulator/base/struct.ts';
import { edid } from '../../../emulator/vmbus/devices/video/edid.ts';
import { FakeDriver, type GuestPacket, type OpenedChannel } from './fake-driver.ts';

const MIB = 1 << 20;
const VRAM = 8 * MIB;
const WINDOW = { gpa: 0xe000_0000, size: 0x0f00_0000 };
const GPA = 0xe010_0000;

/** Little-endian numbers of given sizes, packed. */
const packed = (...fields: [size: 1 | 2 | 4 | 8, value: number][]): Uint8Array => {
  const out = new Uint8Array(fields.reduce((n, [size]) => n + size, 0));
  const v = viewOf(out);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 1) v.setUint8(at, value);
    else if (size === 2) v.setUint16(at, value, true);
    else if (size === 4) v.setUint32(at, value, true);
    else v.setBigUint64(at, BigInt(value), true);
    at += size;
  }
  return out;
};
/** Headers as hyperv_drm_proto.c has them: the size is that of the inner header and the body. */
const video = (type: number, body: Uint8Array = new Uint8Array(0)): Uint8Array => {
  const out = new Uint8Array(16 + body.length);
  out.set(packed([4, 1], [4, 8 + body.length], [4, type], [4, 8 + body.length]));
  out.set(body, 16);
  return out;
};
const version = (major: number, minor: number): Uint8Array => video(1, packed([2, major], [2, minor]));
const vram = (gpa: number, specified = 1): Uint8Array => video(3, packed([8, gpa], [1, specified], [8, gpa]));
const situation = (s: Partial<Record<'active' | 'offset' | 'depth' | 'width' | 'height' | 'pitch', number>> = {}): Uint8Array => {
  const { active = 1, offset = 0, depth = 32, width = 1024, height = 768, pitch = 4096 } = s;
  return video(5, packed([8, 77], [1, 1], [1, active], [4, offset], [1, depth], [4, width], [4, height], [4, pitch]));
};

const answer = (p: GuestPacket | undefined): { type: number; body: DataView } => {
  if (!p) throw new Error('no answer');
  const v = viewOf(p.payload);
  const size = v.getUint32(4, true);
  assert.deepEqual([p.type, v.getUint32(0, true), v.getUint32(12, true)], [6, 1, size]);
  return { type: v.getUint32(8, true), body: new DataView(p.payload.buffer, p.payload.byteOffset + 16, size - 8) };
};
const bytesOf = (body: DataView): number[] => Array.from({ length: body.byteLength }, (_, i) => body.getUint8(i));

function opened(options: ConstructorParameters<typeof FakeDriver>[0] = {}): { d: FakeDriver; c: OpenedChannel } {
  const d = new FakeDriver({ deviceMemory: VRAM, mmio: [WINDOW], ...options });
  d.connect();
  return { d, c: d.open(d.relidOf('video'), 8) };
}
/** Past version, VRAM and situation, as hyperv_drm is after its probe. */
function drawing(): { d: FakeDriver; c: OpenedChannel } {
  const o = opened();
  for (const message of [version(3, 5), vram(GPA), situation()]) o.d.send(o.c, message);
  while (o.c.in.take());
  return o;
}

test('the offer asks for VRAM', () => {
  const { d } = opened();
  const offer = viewOf(d.offers.get('da0a7802-e377-4aac-8e77-0558eb1073f8')?.payload ?? new Uint8Array(196));
  assert.deepEqual([offer.getUint16(58, true), offer.getUint16(56, true)], [8, 0x10]);
});

test('versions 3.2 to 3.5 are accepted, and others answered with what could be', () => {
  const { d, c } = opened();
  const asked: [number, number][] = [
    [3, 5],
    [3, 2],
    [3, 3],
    [3, 4],
    [3, 0],
    [4, 0],
    [5, 3],
  ];
  assert.deepEqual(
    asked.map(([major, minor]) => {
      d.send(c, version(major, minor));
      const { type, body } = answer(c.in.take());
      return [type, `${body.getUint16(0, true)}.${body.getUint16(2, true)}`, body.getUint8(4) !== 0, body.getUint8(5)];
    }),
    [
      [2, '3.5', true, 1],
      [2, '3.2', true, 1],
      [2, '3.3', true, 1],
      [2, '3.4', true, 1],
      [2, '3.5', false, 1],
      [2, '3.5', false, 1],
      [2, '3.5', false, 1],
    ],
  );
  // The last one was refused: nothing goes on.
  d.send(c, vram(GPA));
  assert.deepEqual([c.in.used, d.ram.state.device, d.notes().length], [0, -1, 4]);
});

test('resolutions: all fit into VRAM, none twice, the preferred one is the default whatever the guest has room for', () => {
  const list = (o: { d: FakeDriver; c: OpenedChannel }, most: number) => {
    o.d.send(o.c, video(13, packed([1, most])));
    const { type, body } = answer(o.c.in.take());
    const resolutions = Array.from(
      { length: body.getUint8(128) },
      (_, i) => `${body.getUint16(131 + 4 * i, true)}x${body.getUint16(133 + 4 * i, true)}`,
    );
    assert.deepEqual([type, body.byteLength], [14, 131 + 4 * resolutions.length]);
    assert.deepEqual(bytesOf(body).slice(0, 8), [0, 255, 255, 255, 255, 255, 255, 0]);
    return { resolutions, preferred: resolutions[body.getUint8(129)] };
  };
  const o = opened();
  o.d.send(o.c, version(3, 5));
  o.c.in.take();
  const { resolutions, preferred } = list(o, 64);
  assert.equal(preferred, '1024x768');
  assert.ok(resolutions.includes('1920x1080'));
  assert.equal(new Set(resolutions).size, resolutions.length);
  for (const r of resolutions) assert.ok(r.split('x').reduce((n, v) => n * Number(v), 4) <= VRAM, r);
  assert.deepEqual(list(o, 0), { resolutions: ['1024x768'], preferred: '1024x768' });
  assert.equal(list(o, 3).resolutions.length, 3);
  const odd = opened({ display: { width: 1000, height: 700 } });
  odd.d.send(odd.c, version(3, 5));
  odd.c.in.take();
  assert.equal(list(odd, 64).preferred, '1000x700');
});

test('the EDID is one: checksum, and a first timing that is the preferred resolution', () => {
  for (const [width, height] of [
    [640, 480],
    [1024, 768],
    [1920, 1080],
    [3840, 2160],
  ]) {
    const e = edid(width, height);
    const sum = e.reduce((n, b) => n + b, 0) & 255;
    const at = (i: number): number => e[54 + i];
    const pixels = [at(2) | ((at(4) & 0xf0) << 4), at(5) | ((at(7) & 0xf0) << 4)];
    const total = [pixels[0] + (at(3) | ((at(4) & 15) << 8)), pixels[1] + (at(6) | ((at(7) & 15) << 8))];
    const hz = ((at(0) | (at(1) << 8)) * 10_000) / (total[0] * total[1]);
    assert.deepEqual([e.length, sum, pixels, Math.round(hz)], [128, 0, [width, height], 60]);
  }
});

test('VRAM goes where the guest says, and the guest is asked to tell of everything', () => {
  const { d, c } = opened();
  d.send(c, version(3, 5));
  c.in.take();
  d.send(c, vram(GPA));
  const [ack, features] = [answer(c.in.take()), answer(c.in.take())];
  assert.deepEqual(
    [ack.type, ack.body.getBigUint64(0, true), features.type, bytesOf(features.body)],
    [4, BigInt(GPA), 9, [1, 1, 1, 1]],
  );
  assert.deepEqual([d.ram.at(GPA), d.ram.at(GPA + VRAM - 1), d.ram.at(GPA + VRAM)], [d.ram.size, d.ram.size + VRAM - 1, -1]);
});

test('VRAM is refused outside the windows, over their ends and at odd places, and taken away on request', () => {
  const { d, c } = opened();
  d.send(c, version(3, 5));
  c.in.take();
  for (const gpa of [0, 0x10_0000, WINDOW.gpa - 4096, WINDOW.gpa + WINDOW.size - VRAM + 4096, GPA + 8, 2 ** 52]) {
    d.send(c, vram(gpa));
    const { type, body } = answer(c.in.take());
    assert.deepEqual([type, body.getBigUint64(0, true) === BigInt(gpa), c.in.used, d.ram.state.device], [4, false, 0, -1]);
  }
  assert.equal(d.notes().length, 6);
  d.send(c, vram(WINDOW.gpa + WINDOW.size - VRAM));
  assert.equal(d.ram.state.device, WINDOW.gpa + WINDOW.size - VRAM);
  d.send(c, vram(0, 0));
  assert.deepEqual([d.ram.state.device, d.vmbus.screen()], [-1, undefined]);
});

test('the picture is what the guest has drawn where its situation says', () => {
  const { d, c } = drawing();
  d.ram.bytes[d.ram.size + 4096 * 2 + 4] = 0x5a;
  const s = d.vmbus.screen();
  assert.ok(s);
  assert.deepEqual(
    [s.width, s.height, s.depth, s.pitch, s.bytes.length, s.bytes[4096 * 2 + 4]],
    [1024, 768, 32, 4096, 768 * 4096, 0x5a],
  );
  d.send(c, situation({ offset: 4096, depth: 16, width: 800, height: 600, pitch: 2048 }));
  const { type, body } = answer(c.in.take());
  assert.deepEqual([type, body.getBigUint64(0, true)], [6, 77n]);
  const small = d.vmbus.screen();
  assert.deepEqual([small?.width, small?.depth, small?.bytes.length, small?.bytes[4096 + 4]], [800, 16, 599 * 2048 + 1600, 0x5a]);
  d.send(c, situation({ active: 0 }));
  assert.equal(d.vmbus.screen(), undefined);
});

test('pictures that cannot be are acknowledged and not shown', () => {
  const { d, c } = drawing();
  for (const s of [
    { depth: 24 },
    { width: 0 },
    { height: 0 },
    { width: 0xffff_ffff, pitch: 0xffff_fffc },
    { height: 0xffff_ffff },
    { pitch: 4092 },
    { pitch: 4098 },
    { offset: 2 },
    { offset: VRAM - 4096 },
    { height: 2049 },
  ]) {
    d.send(c, situation());
    c.in.take();
    assert.ok(d.vmbus.screen());
    d.send(c, situation(s));
    assert.deepEqual([answer(c.in.take()).type, d.vmbus.screen()], [6, undefined], JSON.stringify(s));
  }
  assert.equal(d.notes().length, 10);
});

test('the picture outlives its channel: a kernel in panic closes it and goes on drawing', () => {
  const { d, c } = drawing();
  d.post(FakeDriver.message(7, c.relid));
  assert.ok(d.vmbus.screen());
  d.post(FakeDriver.message(16));
  assert.deepEqual([d.vmbus.screen()?.width, d.ram.state.device], [1024, GPA]);
});

test('dirt and pointer are there to be looked at; BIOS information and capabilities are answered', () => {
  const { d, c } = drawing();
  d.send(c, video(10, packed([1, 0], [1, 2], [4, 1], [4, 2], [4, 3], [4, 4], [4, 5], [4, 6], [4, 700], [4, 8])));
  d.send(c, video(7, packed([1, 1], [1, 0], [4, 0xffff_fffe], [4, 9])));
  d.send(c, video(8, packed([1, 0xff], [1, 1], [4, 32], [4, 16], [4, 0], [4, 0], [4, 0])));
  const { dirts, dirt, pointer, output } = d.channelInfo(c.relid).details;
  assert.deepEqual(
    { dirts, dirt, pointer, output },
    {
      dirts: 1,
      dirt: '5, 6, 700, 8',
      pointer: 'visible at -2, 9; 32 x 16',
      output: '1024 x 768, 32 bits, 4096 bytes a line, at VRAM 0x0',
    },
  );
  d.send(c, video(11));
  d.send(c, video(15));
  const [bios, capability] = [answer(c.in.take()), answer(c.in.take())];
  assert.deepEqual([bios.type, bios.body.getUint32(0, true), bios.body.byteLength], [12, 1, 16]);
  assert.deepEqual([capability.type, capability.body.byteLength], [16, 64]);
  // Too many rectangles for the message, and a pointer larger than there are.
  d.send(c, video(10, packed([1, 0], [1, 255], [4, 1])));
  d.send(c, video(8, packed([1, 0xff], [1, 1], [4, 97], [4, 16], [4, 0], [4, 0])));
  assert.deepEqual([d.channelInfo(c.relid).details.dirts, d.notes().length], [1, 2]);
});

test('another resolution from the host: the guest loses the device, and gets it again when it has let go of it', () => {
  const { d, c } = drawing();
  const offersOf = (): number[] => d.inbox.splice(0).map((m) => m.type);
  assert.equal(d.vmbus.resizeDisplay({ width: 1280, height: 720 }), true);
  d.pump();
  assert.deepEqual([offersOf(), d.channelInfo(c.relid).state], [[2], 'rescinded']);
  d.post(FakeDriver.message(13, c.relid));
  assert.deepEqual([offersOf(), d.channelInfo(c.relid).state], [[1], 'offered']);
  const again = d.open(c.relid, 8);
  d.send(again, version(3, 5));
  again.in.take();
  d.send(again, video(13, packed([1, 64])));
  const { body } = answer(again.in.take());
  const at = 131 + 4 * body.getUint8(129);
  assert.deepEqual([body.getUint16(at, true), body.getUint16(at + 2, true)], [1280, 720]);
  // Once is once, and what VRAM cannot hold is refused.
  assert.equal(d.vmbus.rescind('video'), true);
  d.pump();
  d.post(FakeDriver.message(13, c.relid));
  assert.deepEqual(offersOf(), [2]);
  for (const [width, height] of [
    [3840, 2160],
    [641, 480],
    [8, 8],
    [1024.5, 768],
  ])
    assert.equal(d.vmbus.resizeDisplay({ width, height }), false);
});

test('any messages: no exception, what is shown lies in VRAM, and every request has at most two answers', () => {
  const type = fc.oneof(fc.integer({ min: 0, max: 17 }), fc.nat());
  const lie = fc.constantFrom(0, 0, 0, 1, 8, -8, 0xffff_0000);
  const number = fc.constantFrom(0, 1, 2, 4, 16, 32, 255, 600, 800, 3200, GPA, 0x7fff_ffff, 0xffff_ffff);
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.array(number, { maxLength: 8 }).map((words) => packed(...words.map((w): [4, number] => [4, w]))),
    fc
      .tuple(number, number, number, number, number)
      .map(([offset, depth, width, height, pitch]) => situation({ offset, depth, width, height, pitch }).slice(16)),
  );
  const shown = new Set<boolean>();
  fc.assert(
    fc.property(fc.array(fc.tuple(type, body, lie, lie), { maxLength: 16 }), fc.boolean(), (messages, ready) => {
      const { d, c } = ready ? drawing() : opened();
      for (const [t, b, inPipe, inHeader] of messages) {
        const message = video(t, b);
        const v = viewOf(message);
        v.setUint32(4, v.getUint32(4, true) + inPipe, true);
        v.setUint32(12, v.getUint32(12, true) + inHeader, true);
        d.send(c, message);
        let answers = 0;
        while (c.in.take()) answers++;
        assert.ok(answers <= 2 && c.out.used === 0);
        const s = d.vmbus.screen();
        shown.add(s !== undefined);
        if (!s) continue;
        const end = s.bytes.byteOffset + s.bytes.length;
        assert.ok(s.bytes.byteOffset >= d.ram.base + d.ram.size && end <= d.ram.base + d.ram.size + VRAM);
        assert.equal(s.bytes.length, s.pitch * (s.height - 1) + (s.width * s.depth) / 8);
      }
      d.vmbus.info();
    }),
    { numRuns: 150, seed: 11 },
  );
  assert.deepEqual([...shown].sort(), [false, true]);
});
