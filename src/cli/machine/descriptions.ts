/** Objects and devices as options describe them: in JSON, or in pairs of the older kind. */
import { CommandError, messageOf } from "../../base/errors.ts";
import { isJsonObject, type ObjectOptions, parseJson, parseOption } from "../../wire/qapi/index.ts";
import { told } from "../refusal.ts";
import { checkIdentifier } from "./drive-options.ts";
import { blaming, type GivenOption } from "./options.ts";
import { optionPairs } from "./opts.ts";

/** The argument of `-object`, in whose pairs names of members have no dots. Throws QapiError. */
export function objectOptions(value: string): ObjectOptions {
  if (!value.startsWith("{")) {
    if (/^(,(?!,)|$)/.test(value)) throw new CommandError("Parameter 'qom-type' does not accept value ''");
    const dotted = optionPairs(value, "qom-type").find(([key]) => key.includes("."));
    if (dotted) throw new CommandError(`Invalid parameter '${dotted[0]}'`);
  }
  try {
    return parseOption("ObjectOptions", value, { impliedKey: "qom-type" });
  } catch (error) {
    const unknown = /^Parameter '([^']+)' is unexpected$/.exec(messageOf(error))?.[1];
    throw unknown === undefined ? error : new CommandError(`Invalid parameter '${unknown}'`);
  }
}

/** A device's description, as JSON or as key=value pairs, whose values are words. */
export function readDevice(value: string): Record<string, unknown> {
  if (value.startsWith("{")) {
    const parsed = parseJson(value);
    if (!isJsonObject(parsed)) throw new CommandError("Invalid JSON object given");
    return { ...parsed };
  }
  return Object.fromEntries(optionPairs(value, "driver"));
}

/** What is wrong with how devices are written, which is seen before anything is made. As of blaming(). */
export function misspeltDevice(options: readonly GivenOption[]): string | undefined {
  const ids = new Set<unknown>();
  for (const option of options.filter(({ name }) => name === "device")) {
    const { value = "" } = option;
    try {
      const { id } = readDevice(value);
      if (typeof id !== "string" || value.startsWith("{")) continue;
      checkIdentifier(id);
      if (ids.has(id)) throw new CommandError(`Duplicate ID '${id}' for device`);
      ids.add(id);
    } catch (error) {
      return blaming(option, told(error));
    }
  }
  return undefined;
}
