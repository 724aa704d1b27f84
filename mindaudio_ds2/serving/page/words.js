// The transcript: words as buttons, coloured by confidence; those that may still change in italics.

const SURE = 0.9, FAIR = 0.7;

export class Transcript {
  constructor(element, live, onWord) {
    this.element = element;
    this.live = live;
    this.onWord = onWord;
    this.empty = element.querySelector("#empty");
    this.clear();
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button.word");
      if (button) this.onWord(this.words[Number(button.dataset.number)]);
    });
    element.addEventListener("keydown", (event) => this.move(event));
  }

  clear() {
    this.words = [];
    this.buttons = [];
    this.element.replaceChildren(this.empty);
    this.partial = document.createElement("span");
    this.partial.className = "partial";
    this.paragraph = null;
    this.live.textContent = "";
  }

  // Words that stay: { text, start, end, confidence }.
  add(words) {
    if (!this.paragraph) this.begin();
    for (const word of words) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = `word ${word.confidence >= SURE ? "sure" : word.confidence >= FAIR ? "fair" : "weak"}`;
      button.textContent = word.text;
      button.dataset.number = this.words.length;
      button.tabIndex = this.words.length === 0 ? 0 : -1;
      const sureness = `${Math.round(100 * word.confidence)} % sure`;
      button.title = `${word.start.toFixed(2)} to ${word.end.toFixed(2)} s, ${sureness}`;
      if (word.confidence < SURE) button.setAttribute("aria-label", `${word.text}, ${sureness}`);
      this.words.push(word);
      this.buttons.push(button);
      this.paragraph.insertBefore(button, this.partial);
      this.paragraph.insertBefore(document.createTextNode(" "), this.partial);
    }
    if (words.length) this.live.textContent = words.map((word) => word.text).join(" ");
    this.scroll();
  }

  // Words that may change.
  showPartial(text) {
    if (text && !this.paragraph) this.begin();
    this.partial.textContent = text;
    this.scroll();
  }

  // The next words begin a paragraph.
  end() {
    this.partial.remove();
    this.partial.textContent = "";
    this.paragraph = null;
  }

  begin() {
    this.empty.remove();
    this.paragraph = document.createElement("p");
    this.paragraph.append(this.partial);
    this.element.append(this.paragraph);
  }

  scroll() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  // Marks the word that is being said at this time; null for none.
  mark(seconds) {
    const place = seconds === null ? -1 : this.words.findIndex((word) => word.start <= seconds && seconds < word.end);
    this.buttons.forEach((button, i) => button.classList.toggle("playing", i === place));
  }

  move(event) {
    const place = this.buttons.indexOf(document.activeElement);
    const target = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: this.buttons.length - 1 }[event.key];
    if (place < 0 || target === undefined || !this.buttons[target]) return;
    event.preventDefault();
    this.buttons[place].tabIndex = -1;
    this.buttons[target].tabIndex = 0;
    this.buttons[target].focus();
  }

  get text() { return this.words.map((word) => word.text).join(" "); }
}
