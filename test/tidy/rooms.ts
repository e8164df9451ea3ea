/**
 * The rooms within a layer's folder and the rule over them (docs/ARCHITECTURE.md): imports between rooms run downward
 * only, type imports included; rooms of one floor do not know each other; files that stand outside of the rooms are
 * above them all.
 */
import { importsOf, resolveImport } from "./layers.ts";
import type { Breach, Source } from "./source.ts";

/** Folders that have rooms: their floors, the lowest first. A room is a folder, or a file's name with its ending. */
const HOUSES: Readonly<Record<string, readonly (readonly string[])[]>> = {
  "src/block": [["model"], ["io", "bitmap", "throttle"], ["graph", "copy"]],
  "src/drivers/format/qcow2": [["disk"], ["metadata"], ["data"], ["features"], ["check"]],
  "src/job": [["core"], ["start.ts"], ["mirror", "backup", "stream", "create"], ["commit"]],
};

/** The house that a file is in. */
function houseOf(path: string): string | undefined {
  return Object.keys(HOUSES).find((house) => path.startsWith(`${house}/`));
}

/** The room of a file in its house, and its floor; those outside of the rooms are above them all. */
function roomOf(path: string, house: string): { room: string; floor: number } {
  const room = path.slice(house.length + 1).split("/")[0] ?? "";
  const floors = HOUSES[house] ?? [];
  const floor = floors.findIndex((rooms) => rooms.includes(room));
  return { room, floor: floor < 0 ? floors.length : floor };
}

/** The rule on rooms. */
export function roomBreaches(source: Source): Breach[] {
  const house = houseOf(source.path);
  if (house === undefined) return [];
  const own = roomOf(source.path, house);
  const floors = HOUSES[house]?.length ?? 0;
  const inFolder = source.path.slice(house.length + 1).includes("/");
  const breaches = importsOf(source).flatMap(({ specifier, line }) => {
    if (!specifier.startsWith(".")) return [];
    const to = resolveImport(source.path, specifier);
    if (houseOf(to) !== house) return [];
    const { room, floor } = roomOf(to, house);
    if (room === own.room || floor < own.floor) return [];
    if (floor === floors && own.floor === floors) return [];
    const what =
      floor === own.floor ? `imports the room beside it: '${to}'` : `imports a room above: '${to}'`;
    return [{ line, what }];
  });
  if (inFolder && own.floor === floors) breaches.unshift({ line: 1, what: "its folder is no room" });
  return breaches;
}

/** How many floors each house has, by its folder: the figure that docs/ARCHITECTURE.md names. */
export function floorsOf(house: string): number {
  return HOUSES[house]?.length ?? 0;
}
