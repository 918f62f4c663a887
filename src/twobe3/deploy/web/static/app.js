"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const say = (text) => { find("status").textContent = text; };
  const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

  // -- the form
  const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`);

  function readEntries(reader) {
    return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  }

  async function listEntry(entry, most) {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader(), found = [];
    for (let some = await readEntries(reader); some.length; some = await readEntries(reader)) {
      for (const one of some) {
        found.push(...await listEntry(one, most));
        if (found.length > most) return found;
      }
    }
    return found;
  }

  async function listDropped(transfer, most) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const found = [];
    for (const entry of entries) found.push(...await listEntry(entry, most));
    return found;
  }

  function describe(problem) {
    return `${problem.code}: ${problem.reason}. What to do: ${problem.remedy}.`;
  }

  function send(form, onProgress) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", "/api/jobs");
      request.responseType = "json";
      request.upload.addEventListener("progress", (event) => onProgress(event.loaded / event.total));
      request.addEventListener("load", () => resolve(request));
      request.addEventListener("error", () => reject(new Error("the connection to the server was lost")));
      request.send(form);
    });
  }

  function startForm(form) {
    const most = { bytes: Number(form.dataset.mostBytes), files: Number(form.dataset.mostFiles) };
    const drop = find("drop");
    let chosen = [];

    function fail(text) {
      find("problem").textContent = text;
      find("sent").hidden = true;
      find("send").disabled = !chosen.length;
      say("");
    }

    function choose(files) {
      chosen = files.filter((file) => file.name !== ".DS_Store");
      const bytes = chosen.reduce((sum, file) => sum + file.size, 0);
      find("problem").textContent = "";
      find("chosen").textContent = chosen.length ? `${count(chosen.length, "file")}, ${size(bytes)}` : "No file was chosen.";
      find("send").disabled = !chosen.length;
      if (bytes > most.bytes || chosen.length > most.files) {
        chosen = [];
        fail("That is more than may be sent at once. Send one patient at a time.");
      }
    }

    async function submit(event) {
      event.preventDefault();
      const body = new FormData();
      body.append("model", form.elements.model.value);
      body.append("force", String(find("force").checked));
      // The names of files and folders may be those of patients: they stay here.
      chosen.forEach((file, i) => body.append("files", file, `${i}${/\.zip$/i.test(file.name) ? ".zip" : ""}`));
      find("problem").textContent = "";
      find("send").disabled = true;
      find("sent").hidden = false;
      try {
        const answer = await send(body, (share) => {
          find("sent").value = share;
          say(share < 1 ? `Sending: ${Math.round(100 * share)} %` : "Sent; the server checks it.");
        });
        if (answer.status === 202) location.assign(`/jobs/${answer.response.id}`);
        else if (answer.status === 401) location.assign("/login");
        else fail(answer.response ? describe(answer.response) : `The server answered ${answer.status}.`);
      } catch (error) {
        fail(`The scan could not be sent: ${error.message}.`);
      }
    }

    for (const button of form.querySelectorAll("[data-opens]")) {
      const input = find(button.dataset.opens);
      button.addEventListener("click", () => input.click());
      input.addEventListener("change", () => choose([...input.files]));
    }
    for (const name of ["dragenter", "dragover"]) {
      drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
    }
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", async (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      find("chosen").textContent = "The files are listed …";
      choose(await listDropped(event.dataTransfer, most.files));
    });
    form.addEventListener("submit", submit);
  }

  // -- the progress
  function describeProgress(job) {
    if (job.state === "running") return job.step;
    return job.position ? `${count(job.position, "prediction")} before this one.` : "It is next.";
  }

  async function follow(job) {
    try {
      const answer = await fetch(`/api/jobs/${job}`);
      const found = await answer.json();
      if (answer.status === 401) { location.assign("/login"); return; }
      if (!answer.ok || found.finished) { location.reload(); return; }
      const text = describeProgress(found);
      if (find("status").textContent !== text) say(text);
    } catch {
      say("The server does not answer; it is asked again.");
    }
    setTimeout(() => follow(job), 1000);
  }

  function offerDeletion(job) {
    find("delete").addEventListener("click", async () => {
      find("delete").disabled = true;
      const answer = await fetch(`/api/jobs/${job}`, { method: "DELETE" }).catch(() => null);
      if (answer?.ok || answer?.status === 404) location.assign("/");
      else { find("delete").disabled = false; say("It could not be deleted."); }
    });
  }

  if (find("upload")) startForm(find("upload"));
  if (find("progress")) follow(find("progress").dataset.job);
  const job = document.querySelector("[data-job]")?.dataset.job;
  if (job) offerDeletion(job);
})();
