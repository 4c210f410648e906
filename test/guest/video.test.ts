/** Debian's generic kernel with hyperv_drm, hid-hyperv and hyperv-keyboard: what it shows, and what is typed and clicked. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { before, test } from 'node:test';
import { debianGuest, debianInitramfs } from '../../scripts/debian-guest.mjs';
import { png } from '../../debug-adapter/screen.ts';
import { type Picture, readPng } from '../unit/debug-adapter/png.ts';
import { debianConfig, Recorded } from './debian.ts';

const FLAVOUR = 'arm64';
const MODULES = ['hyperv_drm', 'hid-generic', 'hid-hyperv', 'evdev'];
const APPEND = 'console=tty0 console=ttyAMA0 hyperstep.shell';
const TROUBLE = /\bBUG\b|WARNING:|Call trace:|Kernel panic|Oops|soft lockup|rcu: INFO/i;
/** Cells of the console's font, VGA 8x16. */
const CELL = { width: 8, height: 16 };
/** The letter H in that font, a byte per row. */
const LETTER_H = [0, 0, 0xc6, 0xc6, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0xc6, 0, 0, 0, 0];

let guest: Recorded;
let initrd: Uint8Array;
let commands = 0;

/** Runs until the console shows `text` after what it shows now. */
function until(text: string, limit = 4_000_000_000): string {
  const from = guest.console.length;
  const end = guest.machine.instructions + limit;
  while (!guest.console.includes(text, from)) {
    const exit = guest.machine.run({ instructions: 5_000_000 });
    assert.equal(exit.kind, 'limit', guest.console.slice(-2000));
    assert.ok(guest.machine.instructions < end, `no "${text}": ${guest.console.slice(-2000)}`);
  }
  return guest.console.slice(from);
}

/** Runs a command in the guest's shell; what it prints. */
function shell(command: string): string {
  const id = ++commands;
  // What the console echoes is not what echo prints.
  guest.machine.consoleInput(Buffer.from(`${command}; echo "DONE"-${id}-\r`));
  const text = until(`DONE-${id}-`);
  return text.slice(text.indexOf('\n') + 1, text.lastIndexOf(`DONE-${id}-`)).replaceAll('\r', '');
}

/** Lets the guest finish what it does, and draw: deferred drawing waits for a twentieth of a second. */
const settle = (ns = 500_000_000): void => {
  const end = guest.machine.now + ns;
  while (guest.machine.now < end)
    assert.equal(guest.machine.run({ instructions: 20_000_000, nanoseconds: end - guest.machine.now }).kind, 'limit');
};

function picture(): Picture {
  const screen = guest.machine.screen();
  assert.ok(screen, 'no picture');
  return readPng(png(screen));
}

/** Rows of a character cell, a bit per pixel that is lit. */
function cell({ width, rgb }: Picture, column: number, row: number): number[] {
  return Array.from({ length: CELL.height }, (_, y) => {
    let bits = 0;
    for (let x = 0; x < CELL.width; x++) {
      const at = 3 * ((row * CELL.height + y) * width + column * CELL.width + x);
      if (rgb[at] | rgb[at + 1] | rgb[at + 2]) bits |= 0x80 >> x;
    }
    return bits;
  });
}

/** Cells in which anything is lit, as `column,row`. */
function litCells(p: Picture): string[] {
  const lit: string[] = [];
  for (let row = 0; row < p.height / CELL.height; row++)
    for (let column = 0; column < p.width / CELL.width; column++)
      if (cell(p, column, row).some((bits) => bits !== 0)) lit.push(`${column},${row}`);
  return lit;
}

/** Clears the guest's console, without a cursor, and writes at a place (both from 0). */
function write(text: string, column: number, row: number): void {
  shell(`printf '\\033[2J\\033[?25l\\033[${row + 1};${column + 1}H\\033[1;32m${text}\\033[0m' > /dev/tty0`);
  settle();
}

before(async () => {
  // The kernel first: its modules are what the initramfs is made of.
  await debianGuest({ flavour: FLAVOUR });
  initrd = await debianInitramfs({ flavour: FLAVOUR, modules: MODULES });
  guest = new Recorded(await debianConfig('own', { flavour: FLAVOUR, initrd, initrdName: 'initramfs', append: APPEND }));
  until('INIT-SHELL');
  settle();
});

test('hyperv_drm, hid_hyperv and hyperv_keyboard are bound, and the console is on the frame buffer', () => {
  const drivers = [...guest.console.matchAll(/^VMBUS: (\S+) class \S+ state 3 driver (\S+)/gm)].map((m) => m[2]);
  for (const driver of ['hyperv_drm', 'hid_hyperv', 'hyperv_keyboard']) assert.ok(drivers.includes(driver), `${drivers}`);
  const log = shell('dmesg');
  assert.match(log, /hyperv_drm .*Synthvid Version major 3, minor 5/);
  assert.match(log, /Console: switching to colour frame buffer device 128x48/);
  assert.match(log, /hid-generic .*Microsoft Vmbus HID-compliant Mouse/);
});

test("text in the guest's console is in the picture: these cells are lit and no other, in their colour and letters", () => {
  const text = 'HELLO, HYPER-V';
  write(text, 10, 20);
  const p = picture();
  assert.deepEqual([p.width, p.height], [1024, 768]);
  const expected = Array.from(text, (c, i) => (c === ' ' ? [] : [`${10 + i},20`])).flat();
  assert.deepEqual(litCells(p), expected);
  assert.deepEqual(cell(p, 10, 20), LETTER_H);
  assert.deepEqual(cell(p, 17, 20), LETTER_H);
  assert.deepEqual(cell(p, 12, 20), cell(p, 13, 20));
  const colours = new Set<string>();
  for (let i = 0; i < p.rgb.length; i += 3) colours.add([...p.rgb.subarray(i, i + 3)].join());
  assert.deepEqual([...colours].sort(), ['0,0,0', '85,255,85']);
  const { dirts } = guest.machine.vmbus().channels.find((c) => c.device === 'video')?.details ?? {};
  assert.ok(Number(dirts) > 0, 'the guest tells what it draws');
});

test('what is typed into the picture is in the picture: the terminal echoes it', () => {
  write('', 0, 0);
  assert.deepEqual(litCells(picture()), []);
  // A terminal that is read echoes.
  shell("(setsid sh -c 'exec </dev/tty1 >/dev/null; read line; echo TYPED-$line >/dev/ttyAMA0' &)");
  for (const code of [0x23, 0x23]) {
    guest.machine.sendKey(0x2a, false);
    guest.machine.sendKey(code, false);
    guest.machine.sendKey(code, true);
    guest.machine.sendKey(0x2a, true);
  }
  settle();
  const p = picture();
  assert.deepEqual([litCells(p), cell(p, 0, 0)], [['0,0', '1,0'], LETTER_H]);
  guest.machine.sendKey(0x1c, false);
  guest.machine.sendKey(0x1c, true);
  until('TYPED-HH');
});

/** `struct input_event` of 64-bit Linux: two qwords of time, u16 type, u16 code, s32 value. */
function recorded(name: string, act: () => void): [type: number, code: number, value: number][] {
  const node = /event\d+/.exec(shell(`grep -l "${name}" /sys/class/input/event*/device/name`))?.[0];
  assert.ok(node, `no input device ${name}`);
  shell(`dd if=/dev/input/${node} of=/tmp/${node} bs=24 2>/dev/null & sleep 0.2`);
  act();
  settle();
  const bytes = Buffer.from(shell(`kill $!; od -A n -v -t x1 /tmp/${node}`).replaceAll(/\[.*\]|\s|Terminated.*/g, ''), 'hex');
  return Array.from({ length: bytes.length / 24 }, (_, i) => [
    bytes.readUInt16LE(24 * i + 16),
    bytes.readUInt16LE(24 * i + 18),
    bytes.readInt32LE(24 * i + 20),
  ]);
}
const [EV_KEY, EV_REL, EV_ABS] = [1, 2, 3];

test('keys arrive, with their releases and prefixes', () => {
  const { machine } = guest;
  const events = recorded('AT Translated Set 2 keyboard', () => {
    for (const code of [0x1e, 0xe048, 0x57]) {
      assert.equal(machine.sendKey(code, false), true);
      settle(50_000_000);
      assert.equal(machine.sendKey(code, true), true);
      settle(50_000_000);
    }
  });
  // KEY_A, KEY_UP, KEY_F11
  assert.deepEqual(
    events.filter(([type]) => type === EV_KEY),
    [30, 103, 87].flatMap((code) => [
      [EV_KEY, code, 1],
      [EV_KEY, code, 0],
    ]),
  );
});

test('the mouse arrives: places, buttons and the wheel', () => {
  const { machine } = guest;
  const events = recorded('Microsoft Vmbus HID-compliant Mouse', () => {
    for (const report of [
      { x: 16384, y: 8192, buttons: 0 },
      { x: 16384, y: 8192, buttons: 1 },
      { x: 16384, y: 8192, buttons: 0 },
      { x: 32767, y: 0, buttons: 6, wheel: -1 },
      { x: 32767, y: 0, buttons: 0 },
    ]) {
      assert.equal(machine.sendMouse(report), true);
      settle(50_000_000);
    }
  });
  const [BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, REL_WHEEL] = [0x110, 0x111, 0x112, 8];
  assert.deepEqual(
    events.filter(([type, code]) => type === EV_KEY || type === EV_ABS || (type === EV_REL && code === REL_WHEEL)),
    [
      [EV_ABS, 0, 16384],
      [EV_ABS, 1, 8192],
      [EV_KEY, BTN_LEFT, 1],
      [EV_KEY, BTN_LEFT, 0],
      [EV_KEY, BTN_RIGHT, 1],
      [EV_KEY, BTN_MIDDLE, 1],
      [EV_ABS, 0, 32767],
      [EV_ABS, 1, 0],
      [EV_REL, REL_WHEEL, -1],
      [EV_KEY, BTN_RIGHT, 0],
      [EV_KEY, BTN_MIDDLE, 0],
    ],
  );
});

test('from a snapshot the same keys and drawing give the same machine, VRAM and all', () => {
  const { machine } = guest;
  const start = machine.snapshot();
  const go = (slice: number): string => {
    machine.sendKey(0x1e, false);
    machine.sendMouse({ x: 1, y: 2, buttons: 1 });
    machine.consoleInput(Buffer.from('echo drawn > /dev/tty0\r'));
    const end = machine.instructions + 60_000_000;
    while (machine.instructions < end) machine.run({ instructions: Math.min(slice, end - machine.instructions) });
    return machine.stateHash();
  };
  const [before, first] = [picture(), go(20_000_000)];
  assert.notDeepEqual(picture(), before);
  machine.restore(start);
  assert.deepEqual(picture(), before);
  assert.equal(go(7_000_000), first);
});

test('another resolution from the host: the driver binds anew and the console fits', () => {
  assert.equal(guest.machine.resizeDisplay({ width: 1280, height: 720 }), true);
  settle(3_000_000_000);
  assert.match(shell('head -n 1 /sys/class/drm/card0-Virtual-1/modes'), /^1280x720$/m);
  assert.match(shell('cat /sys/class/graphics/fb0/virtual_size'), /^1280,720$/m);
  write('H', 159, 44);
  const p = picture();
  assert.deepEqual([p.width, p.height, litCells(p), cell(p, 159, 44)], [1280, 720, ['159,44'], LETTER_H]);
  assert.doesNotMatch(shell('dmesg'), TROUBLE);
});

test('`hyperstep run --screenshot` writes a PNG of what the guest shows', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-video-'));
  try {
    const file = path.join(dir, 'screen.png');
    fs.writeFileSync(path.join(dir, 'initrd'), initrd);
    const { kernel } = await debianGuest({ flavour: FLAVOUR });
    const cli = ['--import', 'tsx', new URL('../../debug-adapter/cli.ts', import.meta.url).pathname, 'run'];
    const what = ['--kernel', kernel, '--initrd', path.join(dir, 'initrd'), '--append', APPEND, '--display', '800x600'];
    const end = ['--until-console', 'INIT-SHELL', '--screenshot', file];
    const { status, stderr } = spawnSync(process.execPath, [...cli, ...what, ...end], { encoding: 'utf8', timeout: 180_000 });
    assert.equal(status, 0, stderr);
    assert.match(stderr, /screen\.png: 800x600 pixels/);
    const p = readPng(fs.readFileSync(file));
    assert.deepEqual([p.width, p.height], [800, 600]);
    // Lines of the kernel's log begin with a bracket in the first column.
    const lines = Array.from({ length: 37 }, (_, row) => cell(p, 0, row)).filter((c) => c.some((bits) => bits));
    assert.ok(lines.length > 10, `${lines.length} lines`);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});
