/**
 * `blockwright machine`: a machine without a CPU, with the command line of qemu-system-x86_64. Options are carried out in QEMU's
 * order (objects, character devices, nodes, drives, devices, monitors), whatever their order; an error ends the program with status
 * 1 before anything is served. Source: behaviour of QEMU 7.2.
 */
import { messageOf, errnoOf } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import { gatePolicies } from "../../block/model/gate.ts";
import { defaultGate, type GateChoice, readGate } from "../options/engine.ts";
import { keepAlive } from "../../platform/node/clock.ts";
import { loadNativeCalls } from "../../platform/node/native.ts";
import { qemuRelease, version } from "../../version.ts";
import { daemonize, tellReady } from "../daemon/background.ts";
import { type Pidfile, takePidfile } from "../daemon/pidfile.ts";
import type { MachineIdentity } from "../../server/monitor/machine/queries.ts";
import { standIn } from "../program.ts";
import { told } from "../refusal.ts";
import { givenDescriptors } from "./descriptors.ts";
import { wrongProperty } from "./checks.ts";
import { defaultDrives, devicesBefore } from "./defaults.ts";
import { misspeltDevice } from "./descriptions.ts";
import { deviceHelp, formatsHelp, machineHelp, propertiesHelp, usage } from "./help.ts";
import { type OptionPairs, optionPairs } from "./opts.ts";
import { compatLevels, type CompatLevel } from "../../wire/qapi/index.ts";
import { blaming, type GivenOption, lastValue, readOptions, WrongOption } from "./options.ts";
import { tell, Unlocated } from "./telling.ts";
import { MachineProgram } from "./program.ts";

/** The options in the order in which QEMU carries them out. */
const order: readonly (readonly string[])[] = [
  ["global"],
  ["add-fd"],
  ["chardev"],
  ["object"],
  ["blockdev"],
  ["drive", "hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb"],
  ["qtest"],
  ["mon", "monitor", "qmp", "qmp-pretty"],
  ["serial"],
  ["device"],
];

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

function fail(message: string): number {
  return failAt(` ${message}`);
}

/** As fail(), of what stands after the program's name and a colon. */
function failAt(message: string): number {
  tell(message);
  return 1;
}

function versionText(): string {
  if (standIn()) return `QEMU emulator version ${qemuRelease} (Blockwright ${version})\n`;
  return `blockwright machine version ${version} (behaves as qemu-system-x86_64 ${qemuRelease})\n`;
}

/** What is asked for and answered at once; undefined: the machine is to run. */
function answered(options: readonly GivenOption[]): number | undefined {
  for (const { name, value = "" } of options) {
    if (name === "help" || name === "h") return print(usage());
    if (name === "version") return print(versionText());
    const [first] = optionPairs(value, "type");
    const word = first?.[1];
    if ((name === "machine" || name === "M") && (word === "help" || word === "?"))
      return print(machineHelp());
    if (name === "accel" && ["help", "?", "", undefined].includes(word))
      return print("Accelerators supported in QEMU binary:\ntcg\nqtest\n");
    if (name === "device" && (word === "help" || word === "?")) return print(deviceHelp());
    const asked = name === "device" ? /^(?:driver=)?([\w-]+),(?:help|\?)$/.exec(value)?.[1] : undefined;
    const properties = asked === undefined ? undefined : propertiesHelp(asked);
    if (properties !== undefined) return print(properties);
    if (name === "drive" && asksForFormats(value)) return print(formatsHelp());
  }
  return undefined;
}

function asksForFormats(value: string): boolean {
  return optionPairs(value, "file").some(
    ([key, text]) => (key === "format" || key === "driver") && (text === "help" || text === "?"),
  );
}

/** Runs the machine with the arguments after `machine`; resolves with the exit status. */
export async function machine(args: string[]): Promise<number> {
  let options: GivenOption[];
  try {
    options = readOptions(args, tell);
  } catch (error) {
    if (error instanceof WrongOption) return failAt(error.message);
    throw error;
  }
  const early = answered(options);
  if (early !== undefined) return early;
  const wrong = unsupported(options);
  if (wrong !== undefined) return fail(wrong);
  const misspelt = misspeltDevice(options);
  if (misspelt !== undefined) return failAt(misspelt);
  const wanted = lastValue(options, "gate");
  const gate = wanted === undefined ? defaultGate : readGate(wanted);
  if (gate === undefined) return fail(`-gate ${wanted}: one of ${gatePolicies.join(", ")} is expected`);
  const compat = compatOf(options);
  if (compat === undefined)
    return fail(`-compat ${lastValue(options, "compat")}: one of ${compatLevels.join(", ")} is expected`);
  const onStdio = options.find(
    ({ name, value }) => /^(qmp|qmp-pretty|monitor|serial)$/.test(name) && value === "stdio",
  );
  const isDaemon = options.some(({ name }) => name === "daemonize");
  if (isDaemon && onStdio) return failAt(blaming(onStdio, "cannot use stdio with -daemonize"));
  if (isDaemon)
    return daemonize(
      args.filter((arg) => !/^--?daemonize$/.test(arg)),
      "machine",
      givenDescriptors(options),
    ).catch((error: unknown) => fail(messageOf(error)));
  return run(options, gate, compat);
}

/** What was said of the machine. */
function machinePairs(options: readonly GivenOption[]): OptionPairs {
  return options.flatMap(({ name, value = "" }) =>
    name === "machine" || name === "M" ? optionPairs(value, "type") : [],
  );
}

function unsupported(options: readonly GivenOption[]): string | undefined {
  const names = machinePairs(options).flatMap(([key, text]) => (key === "type" ? [text] : []));
  const unknown = names.find((name) => {
    const [, release = "0"] = /^pc-i440fx-([0-9]\.[0-9])$/.exec(name) ?? [];
    return !["pc", "none"].includes(name) && !(Number(release) > 1.3 && Number(release) <= 7.2);
  });
  if (unknown !== undefined) return "unsupported machine type\nUse -machine help to list supported machines";
  const { machine } = identityOf(options);
  const type = `${machine === "pc" ? `pc-i440fx-${qemuRelease.split(".").slice(0, 2).join(".")}` : machine}-machine`;
  const wrong = wrongProperty({ kind: machine, type }, machinePairs(options));
  if (wrong !== undefined) return wrong;
  const display = lastValue(options, "display");
  if (display !== undefined && display !== "none") return `-display ${display}: this machine has no display`;
  return undefined;
}

/** Whose commands monitors take. QEMU's own words for the option ask for nothing here. Undefined: it is no such word. */
function compatOf(options: readonly GivenOption[]): CompatLevel | undefined {
  const text = lastValue(options, "compat") ?? "7.2";
  if (/^deprecated-(in|out)put=/.test(text)) return "7.2";
  return compatLevels.find((level) => level === text);
}

/** What the machine was told of itself. */
function identityOf(options: readonly GivenOption[]): MachineIdentity {
  const value = (option: string, key: string): string | undefined =>
    optionPairs(lastValue(options, option) ?? "", key).findLast(([name]) => name === key)?.[1];
  const [, type] = machinePairs(options).findLast(([key]) => key === "type") ?? [];
  const name = value("name", "guest");
  const uuid = lastValue(options, "uuid");
  return {
    ...(name === undefined || name === "" ? {} : { name }),
    ...(uuid === undefined ? {} : { uuid }),
    machine: type === "none" ? "none" : "pc",
  };
}

async function run(options: readonly GivenOption[], gate: GateChoice, compat: CompatLevel): Promise<number> {
  const program = new MachineProgram({
    gate,
    // Under qtest the virtual clock stands still, and with it whatever is held back.
    isStill: options.some(({ name, value = "" }) => name === "accel" && /^(accel=)?qtest\b/.test(value)),
    snapshot: options.some(({ name }) => name === "snapshot"),
    isPaused: options.some(({ name }) => name === "S"),
    identity: identityOf(options),
    compat,
    qtestLog: lastValue(options, "qtest-log"),
    tcpMonitor: options.some(({ name }) => name === "allow-tcp-monitor"),
  });
  process.once("SIGINT", () => program.end("SIGINT"));
  process.once("SIGTERM", () => program.end("SIGTERM"));
  process.once("SIGHUP", () => program.end("SIGHUP"));
  let pidfile: Pidfile | undefined;
  const path = lastValue(options, "pidfile");
  try {
    if (path !== undefined) pidfile = takePidfile(path, loadNativeCalls());
  } catch (error) {
    await program.close();
    const cause = error instanceof Error ? error.cause : undefined;
    return fail(
      cause === undefined
        ? messageOf(error)
        : `cannot create PID file: Could not create '${path}': ${strerror(errnoOf(cause))}`,
    );
  }
  program.defaults = { drives: defaultDrives(options), before: devicesBefore(options) };
  const failed = await carryOut(program, options);
  if (failed !== undefined) {
    const status = failAt(failed);
    await program.fail();
    pidfile?.remove();
    return status;
  }
  const alive = keepAlive();
  program.setUp();
  tellReady();
  await program.quitRequested;
  const status = await program.close();
  pidfile?.remove();
  alive();
  return status;
}

/** Whether another option serves somebody on a character device. */
function isNamed(options: readonly GivenOption[], { value = "" }: GivenOption): boolean {
  const id = optionPairs(value, "backend").findLast(([key]) => key === "id")?.[1];
  return options.some(
    ({ name, value: its = "" }) =>
      its === `chardev:${id}` ||
      (name === "mon" && optionPairs(its, "chardev").some(([key, text]) => key === "chardev" && text === id)),
  );
}

/** Carries the options out in QEMU's order; resolves with what went wrong. */
async function carryOut(
  program: MachineProgram,
  options: readonly GivenOption[],
): Promise<string | undefined> {
  for (const names of order) {
    // What the board itself has is there before any other device.
    const early = names.includes("serial") ? await program.connectDrives("board") : undefined;
    if (early !== undefined) return early;
    for (const option of options.filter(({ name }) => names.includes(name))) {
      try {
        await program.apply(
          names.includes("chardev") ? { ...option, isServed: isNamed(options, option) } : option,
        );
      } catch (error) {
        return error instanceof Unlocated ? error.message : blaming(option, told(error));
      }
    }
    if (names.includes("device")) {
      const wrong = await program.connectDrives("slots");
      if (wrong !== undefined) return wrong;
    }
  }
  const snapshot = lastValue(options, "loadvm");
  return snapshot === undefined ? undefined : program.load(snapshot);
}
