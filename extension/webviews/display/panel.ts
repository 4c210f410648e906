import { randomBytes } from 'node:crypto';
import * as vscode from 'vscode';
import type { SessionClient, Sessions } from '../../session-client.ts';
import { displayHtml } from './html.ts';
import type { FromPage, ToPage } from './messages.ts';

/** Least time between two looks at a picture, ms. */
const INTERVAL_MS = 100;

/** The display of one session's guest. Looks at it only while it is visible and the guest runs. */
class DisplayPanel {
  readonly #client: SessionClient;
  readonly #sessions: Sessions;
  readonly #panel: vscode.WebviewPanel;
  readonly #subscriptions: vscode.Disposable[];
  /** The page has nothing, and gets the whole picture. */
  #all = true;
  #ready = false;
  #ended = false;
  #looking = false;
  /** Somebody wanted a look while there was one under way. */
  #again = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(context: vscode.ExtensionContext, sessions: Sessions, client: SessionClient, closed: () => void) {
    this.#client = client;
    this.#sessions = sessions;
    const dist = vscode.Uri.joinPath(context.extensionUri, 'dist');
    this.#panel = vscode.window.createWebviewPanel(
      'hyperstep.display',
      `Display: ${client.session.name}`,
      { viewColumn: vscode.ViewColumn.Beside, preserveFocus: true },
      { enableScripts: true, localResourceRoots: [dist] },
    );
    const { webview } = this.#panel;
    this.#subscriptions = [
      webview.onDidReceiveMessage((message: FromPage) => this.#receive(message)),
      this.#panel.onDidChangeViewState(() => {
        // A page that was hidden is made anew and says so.
        if (!this.#panel.visible) this.#ready = false;
      }),
      this.#panel.onDidDispose(() => {
        clearTimeout(this.#timer);
        for (const s of this.#subscriptions) s.dispose();
        closed();
      }),
      sessions.onChange(({ change, client: changed }) => {
        if (changed !== client) return;
        if (change === 'ended') this.#end();
        else void this.#look();
      }),
    ];
    const nonce = randomBytes(16).toString('base64url');
    const scriptUri = webview.asWebviewUri(vscode.Uri.joinPath(dist, 'display.js')).toString();
    webview.html = displayHtml({ nonce, scriptUri });
  }

  reveal(): void {
    this.#panel.reveal(undefined, true);
  }

  dispose(): void {
    this.#panel.dispose();
  }

  #receive(message: FromPage): void {
    if (message.kind === 'ready') {
      this.#ready = true;
      this.#all = true;
      void this.#look();
      return;
    }
    if (this.#ended) return;
    void this.#client.request('hyperstep/input', { events: message.events }).then(undefined, () => {
      // The session ended between the key and the request: its own messages say so.
    });
  }

  /** Shows what has changed, and comes back for more as long as there may be some. */
  async #look(): Promise<void> {
    if (this.#ended || !this.#ready || !this.#panel.visible) return;
    this.#again = this.#looking;
    if (this.#looking) return;
    this.#looking = true;
    clearTimeout(this.#timer);
    const all = this.#all;
    this.#all = false;
    try {
      const { change } = await this.#client.request('hyperstep/screen', { all });
      if (change === 'none') await this.#post({ kind: 'none', text: 'The guest shows no picture.' });
      else if (change) await this.#post({ kind: 'change', change });
    } catch {
      // The session is about to end, or has not got its machine yet: the next look will tell.
      this.#all = all;
    }
    this.#looking = false;
    if (this.#again || this.#all || !this.#sessions.isStopped(this.#client))
      this.#timer = setTimeout(() => void this.#look(), INTERVAL_MS);
  }

  /** The last picture stays to be read. */
  #end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#panel.title += ' (ended)';
  }

  async #post(message: ToPage): Promise<void> {
    await this.#panel.webview.postMessage(message);
  }
}

/** One panel per session, opened by command. */
export function registerDisplay(context: vscode.ExtensionContext, sessions: Sessions): vscode.Disposable {
  const panels = new Map<SessionClient, DisplayPanel>();
  return vscode.Disposable.from(
    vscode.commands.registerCommand('hyperstep.showDisplay', () => {
      const client = sessions.current;
      if (!client) return;
      const panel = panels.get(client);
      if (panel) panel.reveal();
      else panels.set(client, new DisplayPanel(context, sessions, client, () => panels.delete(client)));
    }),
    new vscode.Disposable(() => {
      for (const panel of [...panels.values()]) panel.dispose();
    }),
  );
}
