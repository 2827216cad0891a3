// The bars of one lane of the task stream: polls, in the order in which they ended. The oldest go when
// there are too many.

export class Bars {
  constructor() {
    this.list = [];
    this.first = 0;
  }

  get length() {
    return this.list.length - this.first;
  }

  at(index) {
    return this.list[this.first + index];
  }

  last() {
    return this.list[this.list.length - 1];
  }

  push(bar) {
    const { list } = this;
    list.push(bar);
    // A poll may be told of after a later one of the same lane. That's rare, and then it moves by little.
    for (let i = list.length - 1; i > this.first && list[i - 1].start > bar.start; i--) {
      list[i] = list[i - 1];
      list[i - 1] = bar;
    }
  }

  dropOldest() {
    this.first += 1;
    // Moving the rest costs as much as it is long, so it's done when half is gone.
    if (this.first * 2 > this.list.length && this.first > 64) {
      this.list.splice(0, this.first);
      this.first = 0;
    }
  }

  // The place of the first bar that ends after `time`. Bars of a lane don't overlap, so the ends are in
  // order, too.
  after(time) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.at(middle).end < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
