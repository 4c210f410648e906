import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { ADVERTISED, bitNames, FEATURE_WORDS } from '../../../emulator/hyperv/features.ts';
import { HYPERCALLS } from '../../../emulator/hyperv/hypercalls/index.ts';
import { VP_REGISTERS } from '../../../emulator/hyperv/registers.ts';
import { DEVICES } from '../../../emulator/vmbus/devices/index.ts';
import { PERSONALITIES, PERSONALITY_NAMES, PLATFORM_SETTINGS } from '../../../emulator/personalities.ts';
import { VERSIONS, versionText } from '../../../emulator/vmbus/protocol.ts';

const DOCS = fs.readFileSync(new URL('../../../docs/hyperv.md', import.meta.url), 'utf8');
/** Rows of the tables: cells without back ticks. */
const ROWS = DOCS.split('\n')
  .filter((line) => line.startsWith('|'))
  .map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim().replaceAll('`', '')),
  );
const row = (first: string): string[] => {
  const found = ROWS.find((r) => r[0] === first);
  assert.ok(found, `no row ${first} in docs/hyperv.md`);
  return found;
};

test('docs/hyperv.md lists the hypercalls that have an answer', () => {
  const listed = ROWS.filter((r) => /^0x[0-9a-f]{4}$/.test(r[0]));
  const made = [...HYPERCALLS]
    .sort((a, b) => a.code - b.code)
    .map((c) => [
      `0x${c.code.toString(16).padStart(4, '0')}`,
      c.name,
      `${c.rep ? 'rep' : 'simple'}${c.variable ? ', variable header' : ''}`,
      c.privilege ?? '',
    ]);
  assert.deepEqual(listed, made);
});

test('docs/hyperv.md lists the advertised features', () => {
  for (const { field } of FEATURE_WORDS) assert.equal(row(field)[1], bitNames(field, ADVERTISED[field]).join(', ') || 'none');
  const { features, priv_high, misc_features } = ADVERTISED;
  const values = [features, priv_high, misc_features].map((v) => `0x${v.toString(16)}`).join(', ');
  assert.equal(row('HvRegisterPrivilegesAndFeaturesInfo a, b, c')[1], values);
});

test('docs/hyperv.md names registers by their numbers', () => {
  const byName = new Map(VP_REGISTERS.map((r) => [r.name, r]));
  const named = ROWS.flatMap(([numbers, names]) => {
    const [name] = /HvRegister\w+/.exec(names ?? '') ?? [];
    return /^0x[0-9a-f]{3,5}( |,|$)/.test(numbers) && name ? [[Number.parseInt(numbers, 16), name] as const] : [];
  });
  assert.ok(named.length > 15);
  assert.deepEqual(
    named.filter(([number, name]) => byName.get(name)?.number !== number),
    [],
  );
});

test('docs/hyperv.md lists the VMBus versions and devices', () => {
  assert.equal(row('versions')[1].split(';')[0], VERSIONS.map(versionText).join(', '));
  const at = ROWS.findIndex((r) => r[0] === 'device');
  assert.deepEqual(
    ROWS.slice(at + 2, at + 2 + Object.keys(DEVICES).length).map((r) => r[0]),
    Object.keys(DEVICES),
  );
});

test('docs/hyperv.md and package.json list the platforms, and docs/hyperv.md their settings', () => {
  const at = ROWS.findIndex((r) => r[0] === 'platform');
  const listed = ROWS.slice(at + 2, at + 2 + PERSONALITY_NAMES.length).map((r) => r.slice(0, 4));
  const made = PERSONALITY_NAMES.map((name) => {
    const { title, features, vmbusVersion, hypervisor } = PERSONALITIES[name];
    const words = FEATURE_WORDS.map((w) => `0x${features[w.field].toString(16)}`).join(', ');
    return [name, title, words, hypervisor ? vmbusVersion : ''];
  });
  assert.deepEqual(listed.sort(), made.sort());
  const manifest = JSON.parse(fs.readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  const { platform } = manifest.contributes.debuggers[0].configurationAttributes.launch.properties;
  assert.deepEqual([...platform.enum].sort(), [...PERSONALITY_NAMES].sort());
  assert.equal(platform.enumDescriptions.length, platform.enum.length);
  const settings = ROWS.flatMap((r) => r[0].split(', '));
  assert.deepEqual(
    PLATFORM_SETTINGS.filter((s) => !settings.includes(s)),
    [],
  );
});
