import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PanelInputQueue, type Pointer } from '../../../extension/webviews/display/input.ts';

const at = (x: number, y: number, buttons = 0): Pointer => ({ x, y, width: 101, height: 51, buttons });

test('keys come in order, and go up when the panel loses them; what went down elsewhere is not told', () => {
  const q = new PanelInputQueue();
  q.key('Enter', false);
  q.key('KeyA', true);
  q.key('ShiftLeft', true);
  q.key('KeyA', true);
  q.key('KeyA', false);
  q.release();
  q.release();
  assert.deepEqual(
    [q.take(), q.empty],
    [
      [
        { code: 'KeyA', down: true },
        { code: 'ShiftLeft', down: true },
        { code: 'KeyA', down: true },
        { code: 'KeyA', down: false },
        { code: 'ShiftLeft', down: false },
      ],
      true,
    ],
  );
});

test('places go from corner to corner, and not beyond', () => {
  const q = new PanelInputQueue();
  for (const p of [at(0, 0, 1), at(100, 50, 2), at(50, 25, 4), at(-3, 99, 0xff), { ...at(5, 5, 0), width: 0, height: 1 }])
    q.pointer(p);
  assert.deepEqual(q.take(), [
    { x: 0, y: 0, buttons: 1 },
    { x: 32767, y: 32767, buttons: 2 },
    { x: 16384, y: 16384, buttons: 4 },
    { x: 0, y: 32767, buttons: 31 },
    { x: 0, y: 0, buttons: 0 },
  ]);
});

test('of movements only the last is kept, and no click, turn of the wheel or key is lost among them', () => {
  const step = fc.oneof(
    fc.record({ x: fc.nat(100), y: fc.nat(50), buttons: fc.constantFrom(0, 0, 1, 3), wheel: fc.constantFrom(0, 0, 0, 1, -1) }),
    fc.constantFrom('KeyA', 'KeyB'),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const q = new PanelInputQueue();
      for (const s of steps)
        if (typeof s === 'string') q.key(s, true);
        else q.pointer(at(s.x, s.y, s.buttons), s.wheel);
      const taken = q.take();
      const notable = (list: (string | { buttons: number; wheel?: number })[]): unknown[] => {
        let buttons = -1;
        return list.flatMap((e) => {
          if (typeof e === 'string') return [e];
          const changed = e.buttons !== buttons ? [`buttons ${e.buttons}`] : [];
          buttons = e.buttons;
          return [...changed, ...(e.wheel ? [`wheel ${e.wheel}`] : [])];
        });
      };
      assert.deepEqual(notable(taken.map((e) => ('code' in e ? e.code : e))), notable(steps));
      const last = steps.at(-1);
      const end = taken.at(-1);
      if (last && typeof last !== 'string' && end && 'x' in end)
        assert.deepEqual([end.x, end.y], [Math.round((last.x / 100) * 32767), Math.round((last.y / 50) * 32767)]);
      for (let i = 2; i < taken.length; i++) {
        const three = taken.slice(i - 2, i + 1);
        const moves = three.every((e) => 'x' in e && !e.wheel && 'x' in three[0] && e.buttons === three[0].buttons);
        assert.ok(!moves, 'three movements in a row');
      }
    }),
    { numRuns: 300, seed: 4 },
  );
});
