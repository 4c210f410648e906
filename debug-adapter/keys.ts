/** Keys of a keyboard by their places, as `KeyboardEvent.code` names them, and as the guest gets them. */

/** Several keys that follow one another, from a scan code on. */
const run = (from: number, ...names: string[]): [string, number][] => names.map((name, i) => [name, from + i]);
const letters = (from: number, text: string): [string, number][] => run(from, ...Array.from(text, (c) => `Key${c}`));

/**
 * Set 1 make codes; where a prefix byte comes first it stands above (USB HID to PS/2 Scan Code Translation Table, Microsoft 2000;
 * names: W3C UI Events KeyboardEvent code Values). Pause is two codes, and has none of its own here.
 */
export const SCAN_CODES: ReadonlyMap<string, number> = new Map([
  ...run(0x01, 'Escape', 'Digit1', 'Digit2', 'Digit3', 'Digit4', 'Digit5', 'Digit6', 'Digit7', 'Digit8', 'Digit9', 'Digit0'),
  ...run(0x0c, 'Minus', 'Equal', 'Backspace', 'Tab'),
  ...letters(0x10, 'QWERTYUIOP'),
  ...run(0x1a, 'BracketLeft', 'BracketRight', 'Enter', 'ControlLeft'),
  ...letters(0x1e, 'ASDFGHJKL'),
  ...run(0x27, 'Semicolon', 'Quote', 'Backquote', 'ShiftLeft', 'Backslash'),
  ...letters(0x2c, 'ZXCVBNM'),
  ...run(0x33, 'Comma', 'Period', 'Slash', 'ShiftRight', 'NumpadMultiply', 'AltLeft', 'Space', 'CapsLock'),
  ...run(0x3b, 'F1', 'F2', 'F3', 'F4', 'F5', 'F6', 'F7', 'F8', 'F9', 'F10', 'NumLock', 'ScrollLock'),
  ...run(0x47, 'Numpad7', 'Numpad8', 'Numpad9', 'NumpadSubtract', 'Numpad4', 'Numpad5', 'Numpad6', 'NumpadAdd'),
  ...run(0x4f, 'Numpad1', 'Numpad2', 'Numpad3', 'Numpad0', 'NumpadDecimal'),
  ...run(0x56, 'IntlBackslash', 'F11', 'F12', 'NumpadEqual'),
  ...run(0x70, 'KanaMode'),
  ...run(0x73, 'IntlRo'),
  ...run(0x79, 'Convert'),
  ...run(0x7b, 'NonConvert'),
  ...run(0x7d, 'IntlYen'),
  ...run(0x7e, 'NumpadComma'),
  ...run(0xe01c, 'NumpadEnter', 'ControlRight'),
  ...run(0xe035, 'NumpadDivide'),
  ...run(0xe037, 'PrintScreen', 'AltRight'),
  ...run(0xe047, 'Home', 'ArrowUp', 'PageUp'),
  ...run(0xe04b, 'ArrowLeft'),
  ...run(0xe04d, 'ArrowRight'),
  ...run(0xe04f, 'End', 'ArrowDown', 'PageDown', 'Insert', 'Delete'),
  ...run(0xe05b, 'MetaLeft', 'MetaRight', 'ContextMenu'),
]);

/** Words of the `key` command that are no codes. */
const WORDS: Readonly<Record<string, string>> = {
  esc: 'Escape',
  up: 'ArrowUp',
  down: 'ArrowDown',
  left: 'ArrowLeft',
  right: 'ArrowRight',
  ctrl: 'ControlLeft',
  shift: 'ShiftLeft',
  alt: 'AltLeft',
};

const BY_CODE_LOWER = new Map([...SCAN_CODES].map(([code, scan]) => [code.toLowerCase(), scan]));

/** A key as a person writes it: a letter, a digit, `enter`, `esc`, `f1`, `up`, or a code of the list. Any case. */
export function scanCodeOf(word: string): number | undefined {
  const name = word.toLowerCase();
  const code = /^[a-z]$/.test(name)
    ? `key${name}`
    : /^\d$/.test(name)
      ? `digit${name}`
      : Object.hasOwn(WORDS, name)
        ? WORDS[name].toLowerCase()
        : name;
  return BY_CODE_LOWER.get(code);
}
