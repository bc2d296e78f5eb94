"""The one place that touches ComfyUI: its folders, progress, page and models in memory."""
