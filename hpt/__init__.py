"""HPT (HyperGAI): a vision tower, a projector and a language model from the sub-folders of one repository."""

from hpt.modeling_clip import CLIPVisionModel
from hpt.modeling_hpt import HPT, LanguageModel
from hpt.modeling_projector import ProjectorModel
from hpt.modeling_siglip import SiglipVisionModel

__all__ = ["HPT", "CLIPVisionModel", "LanguageModel", "ProjectorModel", "SiglipVisionModel"]
