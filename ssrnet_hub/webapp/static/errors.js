/** What errors say in Chinese. */

/** By what they say in English, with what they are about in braces. */
export const MESSAGES = {
  // photos
  'A photo must be uploaded.': '请上传照片。',
  'There is no photo yet: upload one first.': '还没有照片，请先上传一张。',
  'There are no photos yet: upload some first.': '还没有照片，请先上传。',
  'More than {limit} photos were sent: send fewer at a time.': '照片超过 {limit} 张，请分批上传。',
  '{name} is empty: 0 bytes.': '{name} 是空文件（0 字节）。',
  '{name} is damaged: {reason}.': '{name} 已损坏，无法读取。',
  '{name} is damaged: it is cut off.': '{name} 不完整，无法读取。',
  '{name} is damaged, or HEIC of a kind that is not supported.': '{name} 已损坏，或是不支持的 HEIC 类型。',
  '{name} is HEIC, which needs the extra heif: {install}.': '{name} 是 HEIC 格式，服务器未安装其支持：{install}。',
  '{name} is not a picture of a known format ({formats}).': '{name} 不是支持的图片格式（{formats}）。',
  '{name} cannot be read: {reason}.': '{name} 无法读取。',
  '{name} cannot be read as a picture: {reason}.': '{name} 无法作为图片读取。',
  '{name} is a folder, not a picture.': '{name} 是文件夹，不是图片。',
  '{name} has no pixels: {width}x{height}.': '{name} 没有像素：{width}x{height}。',
  '{name} has {width}x{height} = {size} megapixels, more than the limit of {limit}. Reduce it.':
    '{name} 为 {width}x{height}，共 {size} 百万像素，超过上限 {limit}。请缩小后再试。',
  '{name}: {reason} To allow it, raise PIL.Image.MAX_IMAGE_PIXELS as well as max_pixels.':
    '{name} 的像素过多。请缩小后再试。',
  '{name} would take too much work to decode: {reason}.': '{name} 解码的计算量过大。请另存为普通的 JPEG 或 PNG。',
  '{name} would take too much work to decode: {format} of this kind is read up to {limit} megapixels. Save it in another \
format, such as PNG.': '{name} 解码的计算量过大：这种 {format} 最多支持 {limit} 百万像素。请另存为其他格式，如 PNG。',
  '{name} needs more memory to decode than is available.': '{name} 解码所需的内存不足。',
  '{name} cannot be decoded: it takes longer than {limit} seconds.': '{name} 无法解码：超过 {limit} 秒的时限。',
  '{name} cannot be decoded: its decoder broke down.': '{name} 无法解码：解码器出错。',
  '{name} is a TIFF that is damaged or of a kind that is not supported: save it as PNG or JPEG, or as a plain TIFF of 8 or \
16 bits a channel.': '{name} 是已损坏或不支持的 TIFF。请另存为 PNG 或 JPEG，或每通道 8 位或 16 位的普通 TIFF。',
  'The smallest face must be from 12 to {limit} pixels.': '最小人脸须为 12 至 {limit} 像素。',
  // uploads
  'This file is not, or no longer, among the uploads of this server: upload it again.':
    '服务器上没有这个文件，或已将其删除。请重新上传。',
  'This file has more than the limit of {limit} bytes.': '文件超过上限 {limit} 字节。',
  'This URL is not public, or does not return a file of at most {limit} bytes.':
    '该网址无法访问，或没有返回不超过 {limit} 字节的文件。',
  'The files at the URLs have more than {limit} bytes in all, or take longer than {seconds} seconds.':
    '网址中的文件合计超过 {limit} 字节，或下载超过 {seconds} 秒。',
  'Files must be uploads or URLs, not paths: pass gradio_client.handle_file(path) to the client.':
    '文件须上传或以网址给出，不能是路径。',
  'The data: URL in this request is damaged.': '请求中的文件已损坏。',
  // zips
  'The zip cannot be read: {reason}.': '压缩包无法读取。',
  'The zip has no {name}.': '压缩包中没有 {name}。',
  'The zip has more than {limit} entries.': '压缩包中的文件超过 {limit} 个。',
  'The zip has a path outside of itself: {name}.': '压缩包中的路径指向包外：{name}。',
  'The zip has {count} pictures, more than the limit of {limit}.': '压缩包中有 {count} 张图片，超过上限 {limit} 张。',
  'The pictures in the zip have {total} bytes, more than the limit of {limit}.':
    '压缩包中的图片共 {total} 字节，超过上限 {limit} 字节。',
  'It has {size} bytes, more than the limit of {limit}.': '文件有 {size} 字节，超过上限 {limit} 字节。',
  'It is encrypted.': '文件已加密。',
  'It is packed by another method than deflate: pack it again with an ordinary zip program.':
    '压缩方式不受支持。请用普通的 zip 程序重新压缩。',
  'It cannot be unpacked: {reason}.': '文件无法解压。',
  '{count} picture left out, of formats that cannot be read: {formats}.': '略过 {count} 张无法读取的图片：{formats}。',
  '{count} pictures left out, of formats that cannot be read: {formats}.': '略过 {count} 张无法读取的图片：{formats}。',
  // videos
  'There is no video yet: upload one first.': '还没有视频，请先上传一个。',
  'A video must be uploaded.': '请上传视频。',
  '{name} has no extension of a supported video. Supported videos are MP4, MOV, WebM, MKV, AVI, and MJPEG files: {suffixes}.':
    '{name} 的扩展名不受支持。支持的视频扩展名：{suffixes}。',
  '{name} is not a video. Supported videos are MP4, MOV, WebM, MKV, AVI, and MJPEG files.':
    '{name} 不是视频。支持 MP4、MOV、WebM、MKV、AVI 和 MJPEG 文件。',
  '{name} refers to other files, which are not opened.': '{name} 引用了其他文件，这些文件不会被打开。',
  '{name} has no video stream.': '{name} 中没有画面。',
  '{name} is encoded as {codec}. Supported codecs: {known}.': '{name} 的编码为 {codec}。支持的编码：{known}。',
  '{name} would take too much work to decode: too many scans in a frame.': '{name} 解码的计算量过大：单帧的扫描次数过多。',
  '{name} has more than {limit} frames.': '{name} 超过 {limit} 帧。',
  'The frames of {name} have more than {limit} pixels in all.': '{name} 各帧的像素总数超过 {limit}。',
  '{name} has no frame that can be read.': '{name} 中没有可读取的帧。',
  '{name} cannot be read as a video: {reason}.': '{name} 无法作为视频读取。',
  '{name} is longer than {limit} seconds.': '{name} 超过 {limit} 秒。',
  'The frames of {name} have {pixels} pixels, more than the limit of {limit}.':
    '{name} 的每帧有 {pixels} 像素，超过上限 {limit}。',
  '{name} takes longer than {limit} seconds.': '{name} 的处理时间超过 {limit} 秒。',
  'The copy would replace {name} itself: choose another file.': '副本会覆盖 {name} 本身。',
  '{name} cannot be written: {reason}.': '{name} 无法写入。',
  "Videos need the extra video: pip install 'ssrnet_hub[video]'.": '服务器未安装视频支持。',
  "Tracking requires the extra video: pip install 'ssrnet_hub[video]'.": '服务器未安装视频支持。',
  // weights
  'Compare with at most {limit} weights at a time.': '最多同时对比 {limit} 个权重。',
  'The weights to compare with must be a list of names.': '对比的权重须为名称列表。',
  'The name of the weights must be a string.': '权重名称须为文本。',
  '{name} is not available here. Choose {names}, or a public repository on the Hugging Face Hub as owner/repo or \
owner/repo@revision.':
    '没有权重 {name}。请选择 {names}，或以 owner/repo、owner/repo@revision 的形式填写 Hugging Face Hub 上的公开仓库。',
  '{file} of {repo} has {size} bytes, more than the limit of {limit}.': '{repo} 的 {file} 有 {size} 字节，超过上限 {limit}。',
  'The weights of {repo} take {size} bytes of memory, more than the limit of {limit}.':
    '{repo} 的权重占用 {size} 字节内存，超过上限 {limit}。',
  '{repo} has no revision {revision}.': '{repo} 没有版本 {revision}。',
  '{repo} is not on the Hugging Face Hub, or is not public.': 'Hugging Face Hub 上没有 {repo}，或它不公开。',
  '{repo} is not a valid repository name.': '{repo} 不是有效的 Hugging Face Hub 仓库名称。',
  'The Hugging Face Hub is unreachable. The embedded weights are always available.':
    '无法连接 Hugging Face Hub。内置权重仍可使用。',
  'The Hugging Face Hub does not say which commit of {repo} is meant.': 'Hugging Face Hub 没有给出 {repo} 的提交。',
  // requests
  'This request is too large.': '请求的内容过多。',
  'This function takes {expected} values, not {count}.': '该函数需要 {expected} 个值，收到 {count} 个。',
  'This request failed: see the server log.': '无法处理该请求，详情见服务器日志。',
  'The request was canceled.': '请求已取消。',
  'No client was waiting for the result of this request: send it again.': '请求因无人等待而取消，请重新发送。',
  'The process that decodes photos and videos cannot start.': '解码照片和视频的进程无法启动。',
};

/** By the class of those whose messages are for whoever made the weights, or runs the server. */
export const KINDS = {
  ArchiveError: '压缩包无法读取。',
  ArchitectureError: '这些权重不是本项目支持的年龄模型。',
  CheckError: '这些权重的输出与随附的校验数据不符。',
  ConfigError: '这些权重的 config.json 无效。',
  CorruptWeightsError: '权重文件已损坏。',
  DigestError: '权重文件的 SHA-256 与登记的不符。',
  HubError: '无法从 Hugging Face Hub 下载。',
  MissingPackageError: '服务器缺少所需的软件包。',
  OutputError: '结果无法写入。',
  PhotoError: '照片无法读取。',
  PhotoTooLargeError: '照片的像素超过上限。',
  PickleOnlyError: '这些权重只有 pickle 格式，出于安全考虑不会加载。',
  UnknownModelError: '没有这样的权重。',
  VideoError: '视频无法读取。',
  WeightsNotFoundError: '该仓库缺少 config.json 或 model.safetensors。',
  WrongShapeError: '权重文件与其 config.json 不符。',
  SSRNetHubError: '无法处理该请求。',
};

/**
 * An error in words.
 *
 * @param {{said: string, message: string, kind: string, values: Record<string, string>}} error `said` in English.
 * @param {string} language `en` or `zh`.
 */
export function sayError({ said, message, kind, values }, language) {
  if (language !== 'zh') return said;
  const words = MESSAGES[message] ?? KINDS[kind] ?? KINDS.SSRNetHubError;
  return words.replace(/\{(\w+)\}/g, (braces, name) => values[name] ?? braces);
}
