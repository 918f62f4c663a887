# Write calibration.json: rms::val.prob and stats::glm on drawn probabilities.
#
#   apt-get install r-base-core r-cran-rms r-cran-jsonlite
#   Rscript tests/reference/calibration.R
#
# val.prob's Intercept and Slope are of one fit, logit P(event) = Intercept + Slope logit(p); the intercept with the
# slope held at 1 is glm's with logit(p) as the offset.

suppressMessages({
  library(rms)
  library(jsonlite)
})

evaluate <- function(name, probability, event) {
  found <- val.prob(probability, event, pl = FALSE)
  at_slope_1 <- glm(event ~ offset(qlogis(probability)), family = binomial, epsilon = 1e-14)
  list(name = name, probability = probability, event = event,
       calibration_slope = found[["Slope"]], recalibration_intercept = found[["Intercept"]],
       calibration_intercept = coef(at_slope_1)[[1]], observed_expected = mean(event) / mean(probability),
       auc = found[["C (ROC)"]], brier = found[["Brier"]])
}

set.seed(3)
draw <- function(n, truth, said, digits) {
  latent <- rnorm(n)
  list(probability = round(plogis(said[1] + said[2] * latent), digits),
       event = as.integer(runif(n) < plogis(truth[1] + truth[2] * latent)))
}
drawn <- list(
  "too extreme and too low" = draw(150, c(0.2, 0.7), c(-0.4, 1.3), 4),
  "to 0.1: ties" = draw(80, c(-0.5, 1), c(0.3, 0.6), 1),
  "rare events" = draw(200, c(-2.5, 1), c(-1.5, 0.8), 4),
  "20 patients" = draw(20, c(0, 1), c(0.2, 0.9), 3)
)
versions <- c(R = paste(R.version$major, R.version$minor, sep = "."), rms = as.character(packageVersion("rms")))
cases <- lapply(names(drawn), function(name) evaluate(name, drawn[[name]]$probability, drawn[[name]]$event))
writeLines(toJSON(list(versions = as.list(versions), cases = cases), digits = NA, auto_unbox = TRUE),
           "tests/reference/calibration.json")
