# Write survival.json: concordance, AUC and Brier scores of censored times, computed by R packages that weigh an event
# at T by 1/G(T-), with an event before a censoring at one time.
#
#   apt-get install r-base-core r-cran-survival r-cran-riskregression r-cran-pec r-cran-jsonlite
#   Rscript tests/reference/survival.R
#
# Packages by metric: survival::concordance (uno_c, timewt "n/G2"; harrell_c), riskRegression::Score (AUC, Brier),
# pec::pec (brier_pec), survival::survfit (observed_expected and the weights of mean_auc). The predicted survival is
# exp(-hazard(t) exp(risk)), linear between `times`, from 1 at time 0.

suppressMessages({
  library(survival)
  library(prodlim)
  library(riskRegression)
  library(pec)
  library(jsonlite)
})

# Every other patient trains a Cox model, the others are the case, with the status `tested`; `last` ends the follow-up
# of those who train.
fit_case <- function(name, time, status, covariates, tested = status, last = Inf, risk_step = 0.01, keep = TRUE) {
  train <- seq_along(time) %% 2 == 1
  seen <- data.frame(time = pmin(time, last), status = status == 1 & time <= last, covariates)[train, ]
  model <- coxph(Surv(time, status) ~ ., seen)
  risk <- predict(model, data.frame(covariates)[!train, , drop = FALSE], type = "lp", reference = "zero")
  hazard <- basehaz(model, centered = FALSE)
  times <- unname(quantile(hazard$time, c(0.2, 0.4, 0.6, 0.8, 1), type = 1))
  list(name = name, time = time[!train][keep], status = tested[!train][keep],
       risk = round(risk[keep] / risk_step) * risk_step, times = unique(times),
       hazard = signif(approx(hazard$time, hazard$hazard, unique(times))$y, 6))
}

predicted_survival <- function(case, at) {
  known <- cbind(1, exp(-outer(exp(case$risk), case$hazard)))
  interpolate <- function(own) approx(c(0, case$times), own, at)$y
  matrix(apply(known, 1, interpolate), ncol = length(at), byrow = TRUE)
}

# The first time at which less than a tenth are estimated to be still uncensored, else the last.
truncation <- function(time, status) {
  free <- prodlim(Hist(time, status > 0) ~ 1, reverse = TRUE)
  late <- free$time[free$surv < 0.1]
  if (length(late)) min(late) else max(time)
}

trapezoid <- function(x, y) sum(diff(x) * (head(y, -1) + tail(y, -1)) / 2) / diff(range(x))

evaluate <- function(case) {
  data <- data.frame(time = case$time, status = case$status, risk = case$risk)
  rivals <- any(data$status == 2)
  horizons <- unique(unname(quantile(data$time[data$status == 1], c(0.25, 0.5, 0.75), type = 1)))
  case$horizons <- horizons[horizons <= max(case$times) & horizons < max(data$time)]
  formula <- if (rivals) Hist(time, status) ~ 1 else Surv(time, status) ~ 1
  score <- function(at, metrics) {
    found <- Score(list(m = 1 - predicted_survival(case, at)), formula, data, times = at,
                   metrics = metrics, cens.model = "km", cens.method = "ipcw", cause = 1, se.fit = FALSE,
                   null.model = FALSE, contrasts = FALSE)
    list(auc = found$AUC$score$AUC, brier = found$Brier$score$Brier)
  }
  at <- score(case$horizons, c("auc", "brier"))
  grid <- seq(min(data$time), min(max(case$times), max(case$horizons)), length.out = 12)
  incidence <- if (rivals) {
    fit <- survfit(Surv(time, factor(status)) ~ 1, data)
    summary(fit, times = case$horizons)$pstate[, match("1", fit$states)]
  } else 1 - summary(survfit(Surv(time, status) ~ 1, data), times = case$horizons)$surv
  case$auc <- at$auc
  case$brier <- at$brier
  case$mean_auc <- weighted.mean(at$auc, diff(c(0, incidence)))
  case$grid <- grid
  case$integrated_brier <- trapezoid(grid, score(grid, "brier")$brier)
  case$observed_expected <- incidence / colMeans(1 - predicted_survival(case, case$horizons))
  event <- Surv(data$time, data$status == 1)
  case$harrell_c <- concordance(event ~ risk, data, reverse = TRUE)$concordance
  if (!rivals) {  # of competing events the weights differ: here they are censorings
    survival <- cbind(1, predicted_survival(case, case$horizons))
    case$brier_pec <- pec(list(m = survival), formula, data, times = c(0, case$horizons), exact = FALSE,
                          cens.model = "marginal", reference = FALSE, verbose = FALSE)$AppErr$m[-1]
  }
  case$tau <- truncation(data$time, data$status == 1)
  before <- data$time[data$time < case$tau]
  case$uno_c <- concordance(event ~ risk, data, reverse = TRUE, timewt = "n/G2", ymax = max(before))$concordance
  case
}

gbsg_years <- ceiling(gbsg$rfstime / 365.25)
gbsg_covariates <- gbsg[c("age", "size", "nodes")]
veteran_covariates <- veteran[c("karno", "age")]
one_event <- as.numeric(seq_len(nrow(veteran)) == 100)
mgus <- mgus2[complete.cases(mgus2[c("age", "hgb", "mspike")]), ][1:400, ]
mgus_time <- with(mgus, ifelse(pstat == 1, ptime, futime))
mgus_status <- with(mgus, ifelse(pstat == 1, 1, 2 * death))
lung_covariates <- data.frame(age = lung$age, sex = lung$sex)

set.seed(20)
signal <- round(rnorm(300), 2)
onset <- rgeom(300, plogis(-1.4 + signal)) + 1
loss <- pmin(rgeom(300, 0.3) + 1, 8)
cases <- list(
  fit_case("veteran, days", veteran$time, veteran$status, veteran_covariates),
  fit_case("veteran, months", ceiling(veteran$time / 30.4375), veteran$status, veteran_covariates),
  fit_case("veteran, trained on 100 days", veteran$time, veteran$status, veteran_covariates, last = 100),
  fit_case("veteran, weeks, one event", ceiling(veteran$time / 7), veteran$status, veteran_covariates, one_event),
  fit_case("lung, quarters, risk to 0.25: ties", ceiling(lung$time / 91.3125), lung$status - 1, lung_covariates,
           risk_step = 0.25),
  fit_case("gbsg, years", gbsg_years, gbsg$status, gbsg_covariates),
  fit_case("gbsg, years, 20 patients", gbsg_years, gbsg$status, gbsg_covariates, keep = seq(1, 300, 15)),
  fit_case("gbsg, all censored after 1000 days", pmin(gbsg$rfstime, 1200), gbsg$status * (gbsg$rfstime < 1000),
           gbsg_covariates),
  fit_case("simulated, years, 30 % lost a year", pmin(onset, loss), as.numeric(onset <= loss), data.frame(signal)),
  fit_case("mgus2, competing death, years", ceiling(pmax(mgus_time, 1) / 12), mgus_status,
           mgus[c("age", "hgb", "mspike")])
)
packages <- c("survival", "riskRegression", "pec", "prodlim")
versions <- c(R = paste(R.version$major, R.version$minor, sep = "."),
              sapply(packages, function(one) as.character(packageVersion(one))))
writeLines(toJSON(list(versions = as.list(versions), cases = lapply(cases, evaluate)), digits = NA, auto_unbox = TRUE,
                  pretty = FALSE), "tests/reference/survival.json")
