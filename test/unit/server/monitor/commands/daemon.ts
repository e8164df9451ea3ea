// An engine in virtual time with the monitor's commands over it. Every reply is checked against the schema.
import { makeEngine } from "../../../../../src/api/engine.ts";
import type { DriverType } from "../../../../../src/block/model/contract.ts";
import { portableDrivers } from "../../../../../src/drivers/index.ts";
import type { Engine } from "../../../../../src/machine/engine.ts";
import { GuestDevice, type GuestDeviceOptions } from "../../../../../src/machine/device.ts";
import { engineCommands } from "../../../../../src/server/monitor/commands/index.ts";
import { type Json, parseJson, schema, stringifyJson, validate } from "../../../../../src/wire/qapi/index.ts";
import { VirtualHost } from "../../../support/virtual-host.ts";

const version = { qemu: { major: 7, minor: 2, micro: 22 }, package: "test" };

/** What a client sees of an engine. */
export class Daemon {
  readonly host = new VirtualHost();
  readonly engine: Engine;
  readonly events: { event: string; data: Record<string, unknown> }[] = [];
  quits = 0;
  readonly #registry = engineCommands({ version, onQuit: () => (this.quits += 1) });

  /** `instead`: drivers in the place of those of their names. */
  constructor({ instead = [], ...options }: { strictErrorPolicy?: boolean; instead?: DriverType[] } = {}) {
    const others = portableDrivers.filter(({ name }) => !instead.some((driver) => driver.name === name));
    this.engine = makeEngine(
      { host: this.host, drivers: [...others, ...instead] },
      { arenaBytes: 1 << 24, ...options },
    );
    this.engine.graph.events.subscribe(({ event, data }) => this.events.push({ event, data }));
  }

  /** Runs a command and returns its reply as JSON. Rejects with the error's text. */
  async run(name: string, args: Record<string, unknown> = {}): Promise<Json> {
    const after: (() => void)[] = [];
    const context = { engine: this.engine, afterReply: (callback: () => void) => void after.push(callback) };
    const answer = this.#registry.run(name, parseJson(JSON.stringify(args)), context);
    const reply = parseJson(stringifyJson(await this.host.clock.settle(answer)));
    check(name, reply);
    for (const callback of after) callback();
    return reply;
  }

  /** Adds a disk in memory. */
  async disk(name: string, size = 1 << 20, more: Record<string, unknown> = {}): Promise<void> {
    // `memory` is a driver of the library only; QAPI does not know it.
    await this.engine.graph.add({ driver: "memory", "node-name": name, size, ...more });
  }

  /** Adds a qcow2 image over memory, with or without a backing node. */
  async image(name: string, size = 1 << 20, backing: string | null = null): Promise<void> {
    await this.disk(`${name}-file`, 0);
    const options = { driver: "qcow2", file: `${name}-file`, size };
    await this.run("blockdev-create", { "job-id": `create-${name}`, options });
    await this.host.clock.idle();
    await this.run("job-dismiss", { id: `create-${name}` });
    await this.run("blockdev-add", { driver: "qcow2", "node-name": name, file: `${name}-file`, backing });
  }

  guest(name: string, node: string, more: Partial<GuestDeviceOptions> = {}): Promise<GuestDevice> {
    const { engine } = this;
    return GuestDevice.plug({ machine: engine.machine, name, node: engine.graph.node(node), ...more });
  }

  get nodes(): string[] {
    return this.engine.graph.nodes.map((node) => node.name);
  }
}

/** A reply has exactly the members that the schema gives it. */
function check(name: string, reply: Json): void {
  const { returns } = schema.commands[name] as { returns?: string | readonly [string] };
  if (returns === undefined) {
    if (stringifyJson(reply) !== "{}") throw new Error(`${name} answered ${stringifyJson(reply)}`);
    return;
  }
  if (typeof returns === "string") {
    validate(returns as "BlockInfo", reply);
    return;
  }
  if (!Array.isArray(reply)) throw new Error(`${name} answered no list`);
  for (const row of reply) validate(returns[0] as "BlockInfo", row);
}
