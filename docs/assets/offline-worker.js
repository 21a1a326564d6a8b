// Search in a page that was opened from a folder: browsers start no worker there, so that an
// invisible frame takes its place.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      const inside = this.frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      script.src = new URL(url, location).href
      this.ready = new Promise(resolve => script.addEventListener("load", resolve))
      inside.document.body.append(script)
    }

    postMessage(data) {
      const event = () => new MessageEvent("message", { data })
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(event()))
    }

    terminate() {
      this.frame.remove()
    }
  }
