// Debian's arm64 packages by the machine's own apt, without changing anything that belongs to it: lists and archives are in a folder
// of ours, and arm64 is the only architecture. Who runs the commands, and how, is the callers' business: debian-guest.mjs waits
// for them, debug-adapter/debian.ts shows their progress and can be cancelled.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Arguments of apt-get that list what the machine's own configuration fetches from, a site a line. */
export const LIST_SITES = ['indextargets', '--format', '$(SITE)', 'Created-By: Packages'];

/**
 * The Debian archive among the sites that LIST_SITES lists.
 * @param {string} listed
 * @returns {string | undefined}
 */
export const debianSite = (listed) => listed.split('\n').find((s) => /\/debian\/?$/.test(s));

/**
 * One suite of an archive as a line of sources.list. `trust`: an option such as `signed-by=FILE`.
 * @param {string} site
 * @param {string} suite
 * @param {string} trust
 */
export const sourceLine = (site, suite, trust) => `deb [arch=arm64 ${trust}] ${site} ${suite} main\n`;

/**
 * Makes the folders of a private apt in `dir`; its options, for apt-get and apt-cache. `list`: the only file of sources; without one
 * the sources are the machine's own.
 * @param {string} dir
 * @param {string} [list]
 * @returns {string[]}
 */
export function privateAptOptions(dir, list) {
  const archives = path.join(dir, 'archives');
  fs.mkdirSync(path.join(dir, 'lists', 'partial'), { recursive: true });
  fs.mkdirSync(path.join(archives, 'partial'), { recursive: true });
  const settings = [
    ...(list === undefined ? [] : [`Dir::Etc::sourcelist=${list}`, 'Dir::Etc::sourceparts=-']),
    `Dir::State::lists=${path.join(dir, 'lists')}`,
    `Dir::Cache=${dir}`,
    `Dir::Cache::archives=${archives}`,
    'APT::Architecture=arm64',
    'APT::Architectures=arm64',
    `APT::Sandbox::User=${os.userInfo().username}`,
  ];
  return ['-qq', ...settings.flatMap((s) => ['-o', s])];
}

/**
 * Packages that `apt-cache depends` lists.
 * @param {string} listed
 * @param {string} [kind] a pattern: `Depends`, `(?:Pre)?Depends`
 * @returns {string[]}
 */
export const dependsListed = (listed, kind = 'Depends') =>
  [...listed.matchAll(new RegExp(`^ *${kind}: (\\S+)$`, 'gm'))].map((m) => m[1]);

/**
 * What `apt-cache show` prints: the fields of each version of each package.
 * @param {string} shown
 * @returns {Record<string, string>[]}
 */
export const packagesShown = (shown) =>
  shown
    .split(/\n{2,}/)
    .map((stanza) => Object.fromEntries([...stanza.matchAll(/^([A-Za-z0-9-]+): (.*)$/gm)].map((m) => [m[1], m[2]])))
    .filter((fields) => fields.Package);
