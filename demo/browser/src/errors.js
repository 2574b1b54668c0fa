/** What went wrong, and what to do, for the person who meets it. */
export class SSRNetHubError extends Error {
  /** @param {string} message @param {ErrorOptions} [options] */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A photo cannot be read. */
export class PhotoError extends SSRNetHubError {}

/** A photo has more pixels than allowed, or than this browser holds. */
export class PhotoTooLargeError extends PhotoError {}

/** The files of a model are missing, or are not understood. */
export class ConfigError extends SSRNetHubError {}
