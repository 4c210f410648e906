import * as vscode from 'vscode';
import type { SessionClient, Sessions } from '../session-client.ts';

/** One line of a view. */
export interface Line {
  label: string;
  description?: string;
  tooltip?: string;
  icon?: string;
  contextValue?: string;
  expanded?: boolean;
  children?: Line[];
  /** Children that are asked for when somebody opens the line. */
  load?: (client: SessionClient) => Promise<Line[]>;
  /** What a click does. */
  command?: vscode.Command;
  /** What a command on this line works with. */
  data?: unknown;
}

/**
 * A tree view whose content comes from one `load`, and from those of lines that are opened: refreshed on every stop, on demand while running, and empty
 * without a session.
 */
export class SessionTree implements vscode.TreeDataProvider<Line>, vscode.Disposable {
  readonly #changed = new vscode.EventEmitter<undefined>();
  readonly onDidChangeTreeData = this.#changed.event;
  readonly #load: (client: SessionClient) => Promise<Line[]>;
  readonly #sessions: Sessions;
  readonly #view: vscode.TreeView<Line>;
  readonly #subscriptions: vscode.Disposable[];

  constructor(id: string, sessions: Sessions, load: (client: SessionClient) => Promise<Line[]>) {
    this.#load = load;
    this.#sessions = sessions;
    this.#view = vscode.window.createTreeView(id, { treeDataProvider: this, showCollapseAll: true });
    this.#subscriptions = [
      this.#view,
      this.#changed,
      sessions.onChange(({ change }) => {
        const { current } = sessions;
        this.#view.message = current && !sessions.isStopped(current) ? 'Running. Use Refresh for the current state.' : undefined;
        if (change !== 'continued') this.refresh();
      }),
      vscode.commands.registerCommand(`${id}.refresh`, () => this.refresh()),
    ];
  }

  refresh(): void {
    this.#changed.fire(undefined);
  }

  getTreeItem(line: Line): vscode.TreeItem {
    const state =
      !line.load && !line.children?.length
        ? vscode.TreeItemCollapsibleState.None
        : line.expanded
          ? vscode.TreeItemCollapsibleState.Expanded
          : vscode.TreeItemCollapsibleState.Collapsed;
    const item = new vscode.TreeItem(line.label, state);
    item.description = line.description;
    item.tooltip = line.tooltip ?? (line.description ? `${line.label}: ${line.description}` : line.label);
    if (line.icon) item.iconPath = new vscode.ThemeIcon(line.icon);
    item.contextValue = line.contextValue;
    item.command = line.command;
    return item;
  }

  async getChildren(line?: Line): Promise<Line[]> {
    if (line && !line.load) return line.children ?? [];
    const client = this.#sessions.current;
    if (!client) return [];
    try {
      return await (line?.load ?? this.#load)(client);
    } catch (error) {
      // A request that met the end of its session is no news; anything else is shown where the data would be.
      if (!this.#sessions.current) return [];
      return [{ label: error instanceof Error ? error.message : String(error), icon: 'warning' }];
    }
  }

  dispose(): void {
    for (const s of this.#subscriptions) s.dispose();
  }
}

/** `name: value` text as a line. */
export function fieldLine(text: string): Line {
  const at = text.indexOf(': ');
  return at < 0 ? { label: text } : { label: text.slice(0, at), description: text.slice(at + 2) };
}
