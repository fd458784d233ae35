"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const SHADES = 5;
  // Control characters, and those that turn the direction of what follows round.
  const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
  const shown = (text) =>
    text.replace(ODD, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

  function element(name, text, attributes = {}) {
    const found = document.createElement(name);
    if (text !== null) found.textContent = text;
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    return found;
  }

  function bar(share) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    const rect = document.createElementNS(space, "rect");
    for (const [key, value] of [["class", "bar"], ["viewBox", "0 0 100 7"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) svg.setAttribute(key, value);
    rect.setAttribute("width", (share * 100).toFixed(2));
    rect.setAttribute("height", "7");
    svg.append(rect);
    return svg;
  }

  async function ask(path, content) {
    const headers = { "Content-Type": "application/json" };
    if (at("token").value) headers.Authorization = "Bearer " + at("token").value;
    const options = content === null ? { headers } : { method: "POST", headers, body: JSON.stringify(content) };
    const answer = await fetch(path, options);
    if (answer.status === 401) at("secret").hidden = false;
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return { found, cut: answer.headers.get("x-truncated-texts") !== null };
  }

  function showClasses(scores) {
    at("label").replaceChildren(
      element("bdi", shown(scores[0].label)),
      " " + (scores[0].score * 100).toFixed(1) + " %",
    );
    at("classes").replaceChildren(
      ...scores.map((one) => {
        const row = element("tr", null);
        const name = element("th", null, { scope: "row" });
        const cell = element("td", null);
        name.append(element("bdi", shown(one.label)));
        cell.append(bar(one.score));
        row.append(name, element("td", one.score.toFixed(3)), cell);
        return row;
      }),
    );
  }

  function showWords(found) {
    // Places are those of characters, of which JavaScript counts some as two.
    const characters = Array.from(found.text);
    const strongest = Math.max(0, ...found.words.map((one) => Math.abs(one.effect)));
    const pieces = [];
    let end = 0;
    for (const one of found.words) {
      pieces.push(shown(characters.slice(end, one.start).join("")));
      const shade = strongest ? Math.floor((Math.abs(one.effect) / strongest) * SHADES + 0.5) : 0;
      const word = shown(characters.slice(one.start, one.stop).join(""));
      const side = one.effect > 0 ? "for-" : "against-";
      pieces.push(
        shade
          ? element("span", word, { class: side + shade, title: (one.effect > 0 ? "+" : "") + one.effect.toFixed(2) })
          : word,
      );
      end = one.stop;
    }
    pieces.push(shown(characters.slice(end).join("")));
    at("words").replaceChildren(...pieces);
  }

  function say(text) {
    at("status").textContent = text;
  }

  async function run(what) {
    const content = what === "explain" ? { text: at("text").value } : { inputs: at("text").value };
    if (at("head").value) content.model = at("head").value;
    const { found, cut } = await ask(what, content);
    const isExplained = what === "explain";
    const scores = isExplained
      ? Object.entries(found.probabilities).map(([label, score]) => ({ label, score })).sort((a, b) => b.score - a.score)
      : found;
    showClasses(scores);
    if (isExplained) showWords(found);
    const remarks = isExplained ? found.remarks : cut ? ["the text is longer than the head's model reads; its end has no effect"] : [];
    at("remarks").replaceChildren(...remarks.map((line) => element("p", "Note: " + shown(line) + ".")));
    at("words").hidden = at("legend").hidden = !isExplained;
    at("answer").hidden = false;
  }

  at("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = document.querySelectorAll("button");
    for (const one of buttons) one.disabled = true;
    say("…");
    try {
      await run(event.submitter === null ? "predict" : event.submitter.value);
      say("");
    } catch (error) {
      at("answer").hidden = true;
      say(shown(String(error.message)));
    }
    for (const one of buttons) one.disabled = false;
  });

  async function listHeads() {
    try {
      const { found } = await ask("info", null);
      at("head").replaceChildren(...found.heads.map((one) => element("option", shown(one.name), { value: one.name })));
      at("heads").hidden = found.heads.length < 2;
      say("");
    } catch (error) {
      say(shown(String(error.message)));
    }
  }
  at("token").addEventListener("change", listHeads);
  listHeads();
})();
