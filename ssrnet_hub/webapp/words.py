"""Texts of Gradio's components in English and Chinese; those of the page's own components are in ``static/say.js``."""

from collections.abc import Sequence
from string import Template

from .limits import Limits

__all__ = ["words"]

_ENGLISH = {
    "language": "en",
    "title": "How old does a face look?",
    "intro": "# How old does a face look?\n"
    "SSR-Net, a network of only 1 MB, estimates age in three stages, from coarse to fine. Expect errors of "
    "several years: an estimate is not proof of age.",
    "photo": "Photo",
    "camera": "Camera",
    "video": "Video",
    "batch": "Batch",
    "about": "About",
    "options": "Options",
    "weights": "Weights",
    "weights_info": "A name, or owner/repo on the Hugging Face Hub",
    "compare": "Compare with",
    "compare_info": "Other weights, on the same face (photo only)",
    "min_face": "Smallest face",
    "min_face_info": "Pixels; smaller faces may be missed. 0 is automatic",
    "rotated": "Detect rotated faces",
    "rotated_info": "Also search photos that are sideways or upside down",
    "camera_note": "Ages are averaged over the last seconds and settle while you hold still. No frames are stored.",
    "video_label": "Video of at most $film_seconds seconds",
    "video_ages": "Video with ages",
    "track": "Track faces",
    "stop": "Stop",
    "photos_label": "Up to $max_photos photos, or zips of photos",
    "estimate": "Estimate ages",
    "about_text": """
**How it works.** [SSR-Net](https://www.ijcai.org/proceedings/2018/0150.pdf) (IJCAI 2018) uses *soft stagewise
regression*: stage 1 has three bins of about 34 years each, and stages 2 and 3 divide these into three finer bins each.
Every stage weights its bins (height **p**), shifts them (**eta**), and scales them (**delta**). The age is the sum of
the three stages.

**Weights.** $names. The default ships with the package. [Its model card](./card) shows for whom errors are largest; its
license allows non-commercial research. Other weights are loaded from public repositories on the Hugging Face Hub, as
safetensors files of at most $weights_size MB.

**Limits.** Photos of at most $megapixels megapixels and $file_size MB. The output is an estimate of apparent age, off
by years, and more so on old scans and on faces unlike the training data. Do not use it to make decisions about people,
such as whether they may enter, buy, work, or get help. Ask people before you estimate their age.

**Privacy.** Uploads and results are deleted from this server within $minutes minutes. Nothing is kept, counted, or sent
elsewhere.

**API.** The endpoints for `gradio_client` are `/predict`, `/explain`, and `/predict_batch`; see *Use via API* below.
""",
}

_CHINESE = {
    "language": "zh",
    "title": "这张脸看起来几岁？",
    "intro": "# 这张脸看起来几岁？\n"
    "SSR-Net 只有 1 MB 大小，分三个阶段由粗到细地估计年龄，并展示推算过程。"
    "结果会有数年误差，不能作为年龄证明。",
    "photo": "照片",
    "camera": "摄像头",
    "video": "视频",
    "batch": "批量",
    "about": "关于",
    "options": "选项",
    "weights": "权重",
    "weights_info": "权重名称，或 Hugging Face Hub 上的 owner/repo",
    "compare": "对比",
    "compare_info": "用其他权重估计同一张脸（仅照片）",
    "min_face": "最小人脸",
    "min_face_info": "像素；更小的人脸可能会漏检。0 为自动",
    "rotated": "检测旋转的人脸",
    "rotated_info": "也检测横置或倒置的照片",
    "camera_note": "年龄取最近几秒的平均值，保持不动时会趋于稳定。不保存任何画面。",
    "video_label": "视频，最长 $film_seconds 秒",
    "video_ages": "标注年龄的视频",
    "track": "跟踪人脸",
    "stop": "停止",
    "photos_label": "最多 $max_photos 张照片，或照片的 zip 压缩包",
    "estimate": "估计年龄",
    "about_text": """
**原理。** [SSR-Net](https://www.ijcai.org/proceedings/2018/0150.pdf)（IJCAI 2018）采用*软阶段式回归*：第 1 阶段\
有三个区间，每个约 34 岁；第 2、3 阶段再把区间各细分为三份。每个阶段为区间赋予权重（高度 **p**），移动它们（**eta**），\
并缩放它们（**delta**）。年龄是三个阶段之和。

**权重。** $names。默认权重随软件包提供，[模型卡](./card)列出了哪些人群误差最大；其许可证允许非商业研究使用。其\
他权重从 Hugging Face Hub 的公开仓库加载，须为不超过 $weights_size MB 的 safetensors 文件。

**限制。** 照片不超过 $megapixels 百万像素、$file_size MB。结果是对外表年龄的估计，会有数年误差；旧照片扫描件以\
及与训练数据差异较大的人脸误差更大。请勿据此对他人作出决定，例如能否进入、购买、工作或获得帮助。估计他人年龄前请\
先征得同意。

**隐私。** 上传的文件和结果会在 $minutes 分钟内从服务器删除。不保留、不统计、不发送到别处。

**API。** 可用 `gradio_client` 调用 `/predict`、`/explain` 和 `/predict_batch`，参见页面底部的 API 说明。
""",
}


def words(language: str, names: Sequence[str], limits: Limits) -> dict[str, str]:
    """Texts of a language, by keys that Gradio does not use.

    Args:
        language: ``en`` or ``zh``.
        names: Names of the available weights.
        limits: Limits on requests.
    """
    values = {
        "names": ", ".join(names),
        "film_seconds": limits.max_film_seconds,
        "max_photos": limits.max_photos,
        "weights_size": f"{limits.max_weights_size / 1e6:.0f}",
        "megapixels": f"{limits.max_pixels / 1e6:.0f}",
        "file_size": f"{limits.max_file_size / 1e6:.0f}",
        "minutes": f"{2 * limits.sweep / 60:.0f}",
    }
    texts = {"en": _ENGLISH, "zh": _CHINESE}[language]
    return {f"ssrnet_{key}": Template(text).substitute(values) for key, text in texts.items()}
