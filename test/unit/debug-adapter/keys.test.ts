import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SCAN_CODES, scanCodeOf } from '../../../debug-adapter/keys.ts';

test('no two keys have one scan code, and all are make codes of set 1, plain or behind 0xe0', () => {
  const codes = [...SCAN_CODES.values()];
  assert.equal(new Set(codes).size, codes.length);
  for (const [name, code] of SCAN_CODES) {
    assert.ok((code & 0xff) > 0 && (code & 0xff) < 0x80, name);
    assert.ok(code >> 8 === 0 || code >> 8 === 0xe0, name);
  }
});

test('keys where the standard has them', () => {
  // USB HID to PS/2 Scan Code Translation Table.
  const known = {
    ...{ Escape: 0x01, Digit0: 0x0b, Minus: 0x0c, Tab: 0x0f, KeyQ: 0x10, KeyP: 0x19, Enter: 0x1c, ControlLeft: 0x1d, KeyA: 0x1e },
    ...{ KeyL: 0x26, Backquote: 0x29, ShiftLeft: 0x2a, Backslash: 0x2b, KeyZ: 0x2c, KeyM: 0x32, Slash: 0x35, ShiftRight: 0x36 },
    ...{ NumpadMultiply: 0x37, AltLeft: 0x38, Space: 0x39, CapsLock: 0x3a, F1: 0x3b, F10: 0x44, NumLock: 0x45, ScrollLock: 0x46 },
    ...{ Numpad7: 0x47, NumpadAdd: 0x4e, NumpadDecimal: 0x53, IntlBackslash: 0x56, F11: 0x57, F12: 0x58, IntlYen: 0x7d },
    ...{ NumpadEnter: 0xe01c, ControlRight: 0xe01d, NumpadDivide: 0xe035, PrintScreen: 0xe037, AltRight: 0xe038, Home: 0xe047 },
    ...{ ArrowUp: 0xe048, PageUp: 0xe049, ArrowLeft: 0xe04b, ArrowRight: 0xe04d, End: 0xe04f, ArrowDown: 0xe050, Insert: 0xe052 },
    ...{ Delete: 0xe053, MetaLeft: 0xe05b, ContextMenu: 0xe05d },
  };
  assert.deepEqual(Object.fromEntries(Object.keys(known).map((k) => [k, SCAN_CODES.get(k)])), known);
});

test('words of a person', () => {
  assert.deepEqual(
    ['a', 'Z', '7', 'esc', 'Enter', 'f10', 'UP', 'arrowdown', 'ctrl', 'KeyB', 'sysrq', '', 'constructor'].map(scanCodeOf),
    [0x1e, 0x2c, 0x08, 0x01, 0x1c, 0x44, 0xe048, 0xe050, 0x1d, 0x30, undefined, undefined, undefined],
  );
});
