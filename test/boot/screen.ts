// Reads what is on the screen of a machine in QEMU: its picture, character by character.

import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import type { Rig } from "../../boot/rigs/rig";

const LIMIT_MS = 30_000;
const WIDTH = 8;
const HEIGHT = 16;
const FONT_HEADER = 4;
const FIRST = 0x20;
const LAST = 0x7e;

/** VGA's text screen, and the picture that it makes. */
const COLUMNS = 80;
const ROWS = 25;
const TEXT_WIDTH = 720;

/** The characters of the kernel's font, by their pixels. */
function readFont(): Map<string, string> {
  const font = readFileSync(join("build", "font.psf"));
  const glyphs = new Map<string, string>();
  for (let code = LAST; code >= FIRST; code--) {
    const at = FONT_HEADER + code * HEIGHT;
    glyphs.set(font.toString("hex", at, at + HEIGHT), String.fromCharCode(code));
  }
  return glyphs;
}

/** Gives QEMU's monitor a command; returns what it answers. */
function monitor(rig: Rig, command: string): Promise<string> {
  return new Promise((done, fail) => {
    const socket = connect(join(dirname(rig.socketPath), "monitor"));
    let prompts = 0;
    let text = "";
    socket.on("error", fail);
    socket.setEncoding("latin1").on("data", (data: string) => {
      text += data;
      if (!text.endsWith("(qemu) ")) return;
      prompts++;
      if (prompts === 2) {
        socket.destroy();
        return done(text);
      }
      text = "";
      socket.write(`${command}\n`);
    });
  });
}

async function takePicture(rig: Rig): Promise<Buffer> {
  const path = join(dirname(rig.socketPath), "screen.ppm");
  await monitor(rig, `screendump ${path}`);
  return readFileSync(path);
}

/** The lines of VGA's text screen: cells of a character and its colours. */
async function readTextScreen(rig: Rig): Promise<string[]> {
  const dump = await monitor(rig, `xp /${COLUMNS * ROWS}hx 0xb8000`);
  const cells = [...dump.matchAll(/ 0x([0-9a-f]{4})\b/g)].map((match) => parseInt(match[1]!, 16) & 0xff);
  const lines: string[] = [];
  for (let at = 0; at < cells.length; at += COLUMNS)
    lines.push(String.fromCharCode(...cells.slice(at, at + COLUMNS)));
  return lines;
}

/** The lines of text on the screen; what is no character is "?". */
async function readScreen(rig: Rig): Promise<string[]> {
  const picture = await takePicture(rig);
  const head = /^P6\n(\d+) (\d+)\n255\n/.exec(picture.toString("latin1", 0, 40))!;
  const [width, height] = [Number(head[1]), Number(head[2])];
  if (width === TEXT_WIDTH) return readTextScreen(rig);
  const font = readFont();
  const lit = (x: number, y: number): boolean => picture[head[0].length + 3 * (y * width + x)] !== 0;
  const lineOf = (x: number, y: number): number => {
    let bits = 0;
    for (let bit = 0; bit < WIDTH; bit++) bits = (bits << 1) | Number(lit(x + bit, y));
    return bits;
  };
  const lines: string[] = [];
  for (let y = 0; y + HEIGHT <= height; y += HEIGHT) {
    let line = "";
    for (let x = 0; x + WIDTH <= width; x += WIDTH) {
      const pixels = Buffer.from(Array.from({ length: HEIGHT }, (_, n) => lineOf(x, y + n)));
      line += font.get(pixels.toString("hex")) ?? "?";
    }
    lines.push(line);
  }
  return lines;
}

/** Waits until the screen shows this; a line that is longer than the screen is wide is one. */
export async function screenShows(rig: Rig, pattern: RegExp): Promise<void> {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const lines = await readScreen(rig);
    const text = lines
      .map((line) => line.trimEnd())
      .join("\n")
      .trimEnd();
    const unbroken = lines.join("").replace(/ {2,}/g, "\n").trimEnd();
    if (pattern.test(text) || pattern.test(unbroken)) return;
    if (Date.now() > end) throw new Error(`the screen does not show ${pattern}, but:\n${text}`);
  }
}
