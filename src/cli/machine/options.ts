/**
 * The options of the machine's command line: which take a value, which are carried out, which are accepted since nothing here
 * depends on them, and which are refused since there is nothing behind them. A word that is no option is a disk.
 * Source: behaviour and option names of QEMU 7.2.
 */

import { ConfigFileError, type ConfigGroup, readConfigFile } from "./config-file.ts";
import { shortForms, wrongValue } from "./checks.ts";
import { joinedPairs, optionPairs } from "./opts.ts";

/** An option as it was given. */
export interface GivenOption {
  readonly name: string;
  /** Undefined where it takes none. */
  readonly value: string | undefined;
  /** As it was written, for messages. */
  readonly words: string;
  /** A character device on which somebody is to be served. */
  readonly isServed?: boolean;
  /** `FILE:LINE` of one out of a file; messages name it in the words' place. */
  readonly place?: string | undefined;
}

/** Options that are carried out; true: with a value. */
const carriedOut: Readonly<Record<string, boolean>> = {
  ...{ drive: true, blockdev: true, device: true, object: true, chardev: true, mon: true, monitor: true },
  ...{ qmp: true, "qmp-pretty": true, qtest: true, serial: true, hda: true, hdb: true, hdc: true, hdd: true },
  ...{ cdrom: true, fda: true, fdb: true, machine: true, M: true, accel: true, S: false, pidfile: true },
  ...{ daemonize: false, version: false, help: false, h: false, nodefaults: false, nographic: false },
  ...{
    snapshot: false,
    "add-fd": true,
    readconfig: true,
    gate: true,
    global: true,
    name: true,
    uuid: true,
    compat: true,
    display: true,
    set: true,
    loadvm: true,
    "qtest-log": true,
    "allow-tcp-monitor": false,
    vga: true,
    parallel: true,
  },
};

/** Options that nothing here depends on. */
const accepted: Readonly<Record<string, boolean>> = {
  ...{ cpu: true, smp: true, m: true, k: true, boot: true, rtc: true, msg: true },
  ...{ bios: true, L: true, d: true, D: true, sandbox: true, overcommit: true, audio: true, audiodev: true },
  ...{ smbios: true, acpitable: true, fw_cfg: true },
  ...{
    action: true,
    "watchdog-action": true,
    usbdevice: true,
    seed: true,
    "mem-prealloc": false,
    "no-reboot": false,
    "no-shutdown": false,
    "no-user-config": false,
  },
  ...{ usb: false, "no-acpi": false, "no-hpet": false, "no-fd-bootchk": false, "enable-kvm": false },
  ...{ "only-migratable": false, nouserconfig: false, icount: true, trace: true, "mem-path": true },
};

/** Options that ask for what there is not. */
const refused: Readonly<Record<string, { value: boolean; why: string }>> = {
  incoming: { value: true, why: "migration is not supported by this machine" },
  kernel: { value: true, why: "this machine has no CPU to run a kernel" },
  initrd: { value: true, why: "this machine has no CPU to run a kernel" },
  append: { value: true, why: "this machine has no CPU to run a kernel" },
  netdev: { value: true, why: "this machine has no network" },
  net: { value: true, why: "this machine has no network" },
  nic: { value: true, why: "this machine has no network" },
  vnc: { value: true, why: "this machine has no display" },
  spice: { value: true, why: "this machine has no display" },
  gdb: { value: true, why: "this machine has no CPU to debug" },
  s: { value: false, why: "this machine has no CPU to debug" },
  fsdev: { value: true, why: "this machine has no shared directories" },
  virtfs: { value: true, why: "this machine has no shared directories" },
  tpmdev: { value: true, why: "this machine has no TPM" },
};

/** The options that are groups of configuration files, too. */
const groups = new Set([
  "drive",
  "device",
  "object",
  "chardev",
  "mon",
  "machine",
  "name",
  "global",
  "add-fd",
]);

/** Options whose value `none` asks for nothing. */
const maybeNone = new Set(["net", "nic"]);

/** Groups of configuration files that no option has the name of, and that nothing here depends on. */
const acceptedGroups = new Set(["boot-opts", "memory", "smp-opts", "accel", "action", "numa", "acpi"]);

/** What is wrong with a command line: what is said after the program's name and a colon. */
export class WrongOption extends Error {}

/** A message about an option, as it stands after the program's name and a colon. */
export function blaming({ words, place }: Pick<GivenOption, "words" | "place">, message: string): string {
  return place === undefined ? ` ${words}: ${message}` : `${place}: ${message}`;
}

/** Takes the words of a command line apart; `warn` gets what stands after the program's name and a colon. Throws WrongOption. */
export function readOptions(words: readonly string[], warn: (text: string) => void): GivenOption[] {
  const given: GivenOption[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (!word.startsWith("-") || word === "-") {
      given.push({ name: "hda", value: word, words: word });
      continue;
    }
    const name = word.replace(/^--?/, "");
    const takes = carriedOut[name] ?? accepted[name] ?? refused[name]?.value;
    if (takes === undefined) throw new WrongOption(` ${word}: invalid option`);
    const value = takes ? words[++at] : undefined;
    if (takes && value === undefined) throw new WrongOption(` ${word}: requires an argument`);
    const wrong = value === undefined ? undefined : wrongValue(name, value);
    if (wrong !== undefined) throw new WrongOption(wrong);
    for (const warning of value === undefined ? [] : shortForms(name, value)) warn(warning);
    if (Object.hasOwn(accepted, name)) continue;
    if (name === "set") {
      setProperty(given, word, value!);
      continue;
    }
    if (name === "readconfig") {
      given.push(...optionsOfFile(value!));
      continue;
    }
    const why = refused[name]?.why;
    if (why !== undefined && !(maybeNone.has(name) && value === "none"))
      throw new WrongOption(` ${word}${value === undefined ? "" : ` ${value}`}: ${why}`);
    given.push({ name, value, words: value === undefined ? word : `-${name} ${value}` });
  }
  return given;
}

/** The options of a configuration file. Throws WrongOption. */
function optionsOfFile(name: string): GivenOption[] {
  try {
    return readConfigFile(name).flatMap((group) => optionOfGroup(group));
  } catch (error) {
    if (!(error instanceof ConfigFileError)) throw error;
    throw new WrongOption(blaming({ words: `-readconfig ${name}`, place: error.place }, error.message));
  }
}

function optionOfGroup({ name, pairs, place }: ConfigGroup): GivenOption[] {
  const at = place === undefined ? " " : `${place}: `;
  if (Object.hasOwn(accepted, name) || acceptedGroups.has(name)) return [];
  const why = refused[name]?.why;
  if (why !== undefined) throw new WrongOption(`${at}${why}`);
  if (!groups.has(name)) throw new WrongOption(`${at}There is no option group '${name}'`);
  return [{ name, value: joinedPairs(pairs), words: "", place }];
}

/** `-set GROUP.ID.OPTION=VALUE`: another option for what was given before. Throws WrongOption. */
function setProperty(given: GivenOption[], word: string, text: string): void {
  const [, group, id, option, value] = /^([^.]+)\.([^.]+)\.([^=]+)=(.*)$/s.exec(text) ?? [];
  if (group === undefined) throw new WrongOption(` ${word} ${text}: can't parse: "${text}"`);
  if (group === "object" || group === "machine" || group === "smp-opts" || group === "boot-opts")
    throw new WrongOption(` ${word} ${text}: -set is not supported with ${group}`);
  if (!Object.hasOwn(carriedOut, group) && !Object.hasOwn(accepted, group))
    throw new WrongOption(` ${word} ${text}: There is no option group '${group}'`);
  const at = given.findIndex(
    (one) =>
      one.name === group && optionPairs(one.value ?? "").some(([key, its]) => key === "id" && its === id),
  );
  const found = given[at];
  if (!found) throw new WrongOption(` ${word} ${text}: there is no ${group} "${id}" defined`);
  const more = `,${option}=${value!.replaceAll(",", ",,")}`;
  given[at] = { ...found, value: `${found.value}${more}`, words: `${found.words}${more}` };
}

/** The value that an option was given last. */
export function lastValue(options: readonly GivenOption[], name: string): string | undefined {
  return options.findLast((option) => option.name === name)?.value;
}
