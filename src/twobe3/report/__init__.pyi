from .page import draw_figures as draw_figures
from .page import write_evaluation_report as write_evaluation_report
from .page import write_report as write_report
