// Page object for the VS Code workbench in headless Chromium.
import { chromium } from 'playwright-core';
import { mkdtempSync, rmSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const BROWSERS = [process.env.TESTBED_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--disable-dev-shm-usage', '--force-color-profile=srgb'];

export async function openWorkbench(address, opts = {}) {
  const executablePath = BROWSERS.find((b) => b && existsSync(b));
  if (!executablePath) throw new Error('no Chromium found: install the distribution package `chromium`, or set TESTBED_CHROMIUM');
  const profile = mkdtempSync(path.join(tmpdir(), 'vsbed-chrome-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath, headless: true, args: FLAGS, viewport: opts.viewport ?? { width: 1500, height: 950 },
    // webviews are served from an https host that is not reachable offline: see README
    serviceWorkers: 'allow',
  });
  const page = context.pages()[0] ?? await context.newPage();
  const console_ = [];
  page.on('console', (m) => console_.push(`${m.type()}: ${m.text()}`));
  page.on('pageerror', (e) => console_.push(`pageerror: ${e.message}`));
  for (const [name, fn] of Object.entries(opts.expose ?? {})) await page.exposeFunction(name, fn);
  await opts.beforeLoad?.(context, page);
  await page.goto(address);
  if (opts.wait !== false) await page.locator('.monaco-workbench .part.statusbar').waitFor({ timeout: 60_000 });
  return new Workbench(page, console_, async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });
}

export class Workbench {
  constructor(page, messages, close) {
    this.page = page;
    /** What the page wrote to its console. */
    this.console = messages;
    this.close = close;
  }

  /** Runs a command by its palette title, as a user would. */
  async command(title) {
    const { page } = this;
    await page.keyboard.press('F1');
    const box = page.locator('.quick-input-widget input[type=text]');
    await box.waitFor();
    await box.fill('>' + title);
    const row = page.locator('.quick-input-list .monaco-list-row').filter({ hasText: title }).first();
    await row.waitFor();
    await row.click();
  }

  async openFile(name, line) {
    const { page } = this;
    await page.keyboard.press('Control+P');
    const box = page.locator('.quick-input-widget input[type=text]');
    await box.waitFor();
    await box.fill(name + (line ? `:${line}` : ''));
    await page.locator('.quick-input-list .monaco-list-row').first().waitFor();
    await page.keyboard.press('Enter');
    await page.locator('.tab', { hasText: name }).waitFor();
    await page.locator('.quick-input-widget').waitFor({ state: 'hidden' });
  }

  async toggleBreakpoint(file, line) {
    await this.openFile(file, line);
    const before = await this.page.locator('.codicon-debug-breakpoint, .codicon-debug-breakpoint-unverified').count();
    await this.command('Debug: Toggle Breakpoint');
    await this.page.waitForFunction((n) => document.querySelectorAll('.codicon-debug-breakpoint, .codicon-debug-breakpoint-unverified').length > n, before);
  }

  /** Presses a debug toolbar button: 'Step Back' and 'Reverse' exist only there, not in the palette. */
  async toolbar(label) {
    await this.page.locator(`.debug-toolbar a[aria-label^="${label}"], .debug-view-content a[aria-label^="${label}"], .composite.title a[aria-label^="${label}"]`).first().click();
  }

  /**
   * F5 until a session is there: a key that comes before the workbench has registered the debugger is lost, or answered with
   * a dialog. Never again when one is there: it would go on from the stop that is waited for. Returns when the call stack has a row.
   */
  async startDebugging() {
    const { page } = this;
    await page.locator('.pane-header', { hasText: 'Call Stack' }).waitFor({ timeout: 60_000 });
    for (let tries = 0; tries < 4; tries++) {
      await page.keyboard.press('F5');
      // Who can be stopped is there.
      const stop = page.locator(['.debug-toolbar', '.debug-view-content', '.composite.title'].map((at) => `${at} a[aria-label^="Stop"]`).join());
      const there = await stop.first().waitFor({ timeout: 20_000 }).then(() => true, () => false);
      if (there) {
        await page.locator('.debug-call-stack .monaco-list-row').first().waitFor({ timeout: 150_000 });
        return;
      }
      this.console.push(`F5 started nothing: ${await this.describe()}`);
      await page.keyboard.press('Escape');
    }
    throw new Error(`no debug session after four times F5: ${await this.describe()}`);
  }

  /** Opens a row of a tree. A click that comes while panes still move hits another row, or none: it is made again. */
  async openRow(row) {
    for (let tries = 0; tries < 5; tries++) {
      await row.click();
      const open = row.and(this.page.locator('[aria-expanded="true"]'));
      if (await open.waitFor({ timeout: 3000 }).then(() => true, () => false)) return;
    }
    throw new Error(`a row does not open: ${await row.innerText()}`);
  }

  /** What the user sees, in words: for the message of a failed test. */
  async describe() {
    const texts = (selector) => this.page.locator(selector).allInnerTexts().catch((e) => [String(e)]);
    const parts = {
      dialog: '.monaco-dialog-box', notification: '.notification-toast', stack: '.debug-call-stack .monaco-list-row',
      console: '.repl .monaco-list-row', status: '.part.statusbar', terminal: '.terminal-wrapper.active .xterm-rows',
    };
    const seen = await Promise.all(Object.entries(parts).map(async ([name, selector]) => [name, (await texts(selector)).slice(0, 12)]));
    return JSON.stringify(Object.fromEntries(seen.filter(([, rows]) => rows.length))).slice(0, 4000);
  }

  /** Waits until the yellow top-frame line is at `line` (1 based): matched by its pixel row. */
  async stoppedAt(line, timeout = 20_000) {
    await this.page.waitForFunction((n) => {
      const top = (e) => e.closest('[style*="top:"]')?.style.top;
      const yellow = document.querySelector('.view-overlays .debug-top-stack-frame-line');
      if (!yellow) return false;
      const number = [...document.querySelectorAll('.margin-view-overlays .line-numbers')].find((e) => top(e) === top(yellow));
      return number?.textContent === String(n);
    }, line, { timeout });
  }

  /** Opens the collapsed rows of a tree that contain `text` (VS Code versions differ in what starts open). */
  async expand(tree, text) {
    const row = this.page.locator(`${tree} .monaco-list-row`, { hasText: text }).first();
    await row.waitFor();
    if ((await row.getAttribute('aria-expanded')) === 'false') await row.click();
  }

  async callStack() { return this.page.locator('.debug-call-stack .monaco-list-row').allInnerTexts(); }
  /** Variable rows; waits until one of them contains `text`. */
  async variables(text) {
    const rows = this.page.locator('.debug-variables .monaco-list-row');
    await this.expand('.debug-variables', 'Locals');
    await (text ? rows.filter({ hasText: text }) : rows).first().waitFor();
    return rows.allInnerTexts();
  }

  /** Text rows of any tree view whose pane header shows `title`. */
  async tree(title) {
    const pane = this.page.locator('.pane').filter({ has: this.page.locator('.pane-header', { hasText: title }) });
    if ((await pane.locator('.pane-header').getAttribute('aria-expanded')) === 'false') await pane.locator('.pane-header').click();
    await pane.locator('.monaco-list-row').first().waitFor();
    return pane.locator('.monaco-list-row').allInnerTexts();
  }

  async evaluate(expression) {
    await this.command('Debug Console: Focus on Debug Console View');
    // A hover that the pointer left open would be in the way.
    await this.page.mouse.move(1, 1);
    await this.page.locator('.repl .repl-input-wrapper .monaco-editor').click();
    await this.page.keyboard.type(expression);
    await this.page.keyboard.press('Enter');
    return this.page.locator('.repl .monaco-list-row').last();
  }

  async disassembly() {
    await this.command('Open Disassembly View');
    const rows = this.page.locator('.disassembly-view .monaco-list-row');
    await rows.first().waitFor();
    return rows;
  }

  /** The inner document of a webview that contains `selector`. Webviews are two nested iframes. */
  async webview(selector, timeout = 20_000) {
    const end = Date.now() + timeout;
    while (Date.now() < end) {
      for (const f of this.page.frames()) {
        const hit = f.locator(selector);
        if (await hit.count().catch(() => 0)) return hit;
      }
      await this.page.waitForTimeout(100);
    }
    throw new Error(`no webview frame holds ${selector}: ${this.page.frames().map((f) => f.url()).join(' ')}`);
  }

  /** Presses the inline "View Binary Data" button of a variable. */
  async viewMemory(name) {
    const row = this.page.locator('.debug-variables .monaco-list-row', { hasText: name });
    await row.hover();
    await row.locator('a[aria-label*="Binary"]').click();
  }

  terminalText() {
    return this.page.locator('.terminal-wrapper.active .xterm-accessibility-tree, .terminal-wrapper.active .xterm-rows').allInnerTexts();
  }

  async screenshot(file) { await this.page.screenshot({ path: file }); }
}
