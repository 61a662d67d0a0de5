// Several requests on their way at once, answers in their order.

/**
 * Pages that are read at once: a page fills a serial line for far longer than its request is on the way, and QEMU's
 * UART is four times slower when requests come while it sends.
 */
export const PAGES_READ = 1;

/** Asks for each item, `depth` at a time, and hands on the answers in the order of the items. */
export async function* pipeline<Item, Answer>(
  items: Iterable<Item>,
  depth: number,
  ask: (item: Item) => Promise<Answer>,
): AsyncGenerator<[Item, Answer]> {
  const asked: { item: Item; answer: Promise<Answer> }[] = [];
  const iterator = items[Symbol.iterator]();
  const more = (): void => {
    while (asked.length < depth) {
      const next = iterator.next();
      if (next.done) return;
      const answer = ask(next.value);
      // Told when it is its turn.
      answer.catch(() => undefined);
      asked.push({ item: next.value, answer });
    }
  };
  for (more(); asked.length > 0; more()) {
    const { item, answer } = asked.shift()!;
    yield [item, await answer];
  }
}

/** Requests whose answers say no more than that they were done: so many at once. */
export class InFlight {
  private readonly asked: Promise<unknown>[] = [];

  constructor(private readonly depth: number) {}

  /** Resolves when there is room for the next one; rejects if one before has failed. */
  async add(request: Promise<unknown>): Promise<void> {
    request.catch(() => undefined); // told when it is its turn
    this.asked.push(request);
    while (this.asked.length >= this.depth) await this.asked.shift();
  }

  /** Waits until all are done. */
  async end(): Promise<void> {
    while (this.asked.length > 0) await this.asked.shift();
  }
}
